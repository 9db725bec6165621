// Plans as text: the contract, byte for byte, and back.

import Foundation
import Spread
import Testing

enum PlanText {
    static func json(
        _ plan: SpreadPlan, _ sources: SourceList, _ form: SpreadPlan.JSONForm = .result
    ) -> String {
        var bytes: [UInt8] = []
        plan.writeJSON(sources, form) { bytes += $0 }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Reads a plan, a few bytes at a time.
    static func read(_ text: String) throws(SpreadPlanFile.Fault<Never>) -> SpreadPlanFile {
        let bytes = Array(text.utf8)
        let reader = Reader()
        return try SpreadPlanFile.read { target in
            let count = min(7, bytes.count - reader.place, target.count)
            for index in 0..<count { target[index] = bytes[reader.place + index] }
            reader.place += count
            return count
        }
    }

    private final class Reader {
        var place = 0
    }
}

@Suite struct PlanJSONTests {
    private static let sources: SourceList = {
        var list = SourceList()
        let source = list.addSource("/data \"x\"")
        list.add(source: source, path: "big".utf8, size: 9000)
        list.add(source: source, path: [0x61, 0xFF, 0x22, 0x0A], size: 5)
        list.add(source: source, path: "link".utf8, size: 5, linkedTo: 1)
        return list
    }()

    @Test func theContract() throws {
        var devices = PlanModel.devices(3)
        devices[1].capacity = 1 << 20
        devices[2].isAvailable = false
        let plan = try SpreadPlanner.plan(
            Self.sources, over: devices, PlanModel.options(.splitFirst))
        let item = "{\"source\": \"/data \\\"x\\\"\", \"path\": "
        #expect(
            PlanText.json(plan, Self.sources) == """
                {"threshold": 4503, "mode": "split-first", "order": "descending",
                "devices": [
                {"name": "dir:/d0", "bytes": 4503, "items": 1, "capacity": null},
                {"name": "dir:/d1", "bytes": 4502, "items": 3, "capacity": 1048576},
                {"name": "dir:/d2", "bytes": 0, "items": 0, "capacity": null, "available": false}],
                "items": [
                \(item)"big", "offset": 0, "size": 4503, "device": "dir:/d0", \
                "rule": "least-filled"},
                \(item)"big", "offset": 4503, "size": 4497, "device": "dir:/d1", \
                "rule": "least-filled"},
                \(item)"a\\u0000ff\\"\\u000a", "offset": 0, "size": 5, "device": "dir:/d1", \
                "rule": "least-filled"},
                \(item)"link", "offset": 0, "size": 0, "device": "dir:/d1", "rule": "link"}]}

                """)
    }

    @Test func aPlanComesBack() throws {
        for seed: UInt64 in 0..<400 {
            let sources = PlanModel.sources(PlanModel.sizes(seed))
            let devices = PlanModel.devices(4)
            let mode = SpreadMode.allCases[Int(seed % 3)]
            let options = PlanModel.options(mode, copies: mode == .balanced ? Int(seed % 4) + 1 : 1)
            let plan = try SpreadPlanner.plan(sources, over: devices, options)
            let text = PlanText.json(plan, sources, .file(options))
            let file = try PlanText.read(text)
            #expect(PlanText.json(file.plan, file.sources, .file(file.options)) == text)
            #expect(file.plan.devices == plan.devices)
            #expect(file.sources.total == sources.total && file.sources.count == sources.count)
        }
    }

    @Test(
        arguments: [
            ("\"offset\": 4503", "\"offset\": 4504", "'big' is not covered once a copy"),
            ("\"offset\": 4503", "\"offset\": 4000", "'big' is not covered once a copy"),
            ("\"offset\": 4503", "\"offset\": 0", "'big' is not covered once a copy"),
            ("\"copies\": 1", "\"copies\": 2", "'big' is not covered once a copy"),
            ("\"copies\": 1", "\"copies\": 0", "an impossible number of copies"),
            ("logdisk spread plan", "shopping list", "it is no plan of logdisk spread"),
            ("\"version\": 1", "\"version\": 2", "it was written by a newer logdisk"),
            ("\"rule\": \"link\"", "\"rule\": \"luck\"", "unknown rule 'luck'"),
            ("\"mode\": \"split-first\"", "\"mode\": \"split\"", "unknown mode"),
            ("\"name\": \"dir:/d1\"", "\"name\": \"dir:/d0\"", "device 'dir:/d0' is there twice"),
            (
                "\"name\": \"dir:/d1\"", "\"name\": \"dir:/d7\"",
                "an item of an unknown source or device"
            ),
            ("\"capacity\": null", "\"capacity\": 5", "more on 'dir:/d0' than its capacity"),
            ("\"order\"", "\"odour\"", "unknown key 'odour'"),
        ])
    func edited(_ old: String, _ new: String, _ reason: String) throws {
        let options = PlanModel.options(.splitFirst)
        let plan = try SpreadPlanner.plan(
            Self.sources, over: PlanModel.devices(2), options)
        let text = PlanText.json(plan, Self.sources, .file(options))
        let place = try #require(text.range(of: old))
        do throws(SpreadPlanFile.Fault<Never>) {
            _ = try PlanText.read(text.replacingCharacters(in: place, with: new))
            Issue.record("it was taken")
        } catch {
            guard case .invalid(let found) = error else {
                Issue.record("\(error)")
                return
            }
            #expect(found == reason)
        }
    }

    /// Cut or damaged anywhere, a plan is refused, or still covers everything.
    @Test func damaged() throws {
        let options = PlanModel.options(.splitFirst)
        let plan = try SpreadPlanner.plan(
            Self.sources, over: PlanModel.devices(2), options)
        let text = Array(PlanText.json(plan, Self.sources, .file(options)).utf8)
        for length in 0..<text.count - 2 {
            let part = String(decoding: text[..<length], as: UTF8.self)
            #expect(throws: SpreadPlanFile.Fault<Never>.self) { try PlanText.read(part) }
        }
        for place in text.indices {
            var bytes = text
            bytes[place] ^= 1
            guard let file = try? PlanText.read(String(decoding: bytes, as: UTF8.self)) else {
                continue
            }
            #expect(
                PlanModel.fault(file.plan, file.sources, PlanModel.devices(2)) == nil,
                "byte \(place)")
        }
    }
}
