// Finds out what a store does by asking it, with small objects below PREFIX/probe that are deleted
// at the end as far as the keys allow. Stores differ most in what matters most here: a create-only
// put may be honoured, refused with 501, or ignored silently; or honoured as long as nobody else
// asks at the same moment, which only a race of real puts tells.

import Foundation
import NIOCore
import NIOHTTP1
import ServerAPI
import Shipping

/// Probes of one store. Calls block.
public enum ObjectProbe {
    /// Puts at the same time in a race.
    static let racers = 8

    /// Everything. Throws where the store is not reached or refuses us.
    public static func run(_ client: ObjectClient, rounds: Int = 8) throws(ShipError) -> ProbeReport
    {
        var report = ProbeReport()
        let base = place(client)
        try basics(client, base, &report)
        let found = try createOnly(client, rounds: rounds)
        report.createOnly = found.verdict
        (report.raceRounds, report.raceWinnersMax) = (found.rounds, found.winnersMax)
        try parts(client, base, &report)
        report.checksums = try checksums(client, base)
        try deletion(client, base, &report)
        report.clockDifferenceSeconds = client.clockDifference
        return report
    }

    private static func place(_ client: ObjectClient) -> String {
        client.url.key("probe/" + String(UInt64.random(in: .min ... .max), radix: 16))
    }

    // MARK: - create-only

    /// What is known of create-only puts.
    struct CreateOnly {
        var verdict: ProbeVerdict
        var rounds = 0
        var winnersMax = 0
    }

    static func createOnly(_ client: ObjectClient, rounds: Int) throws(ShipError) -> CreateOnly {
        let base = place(client)
        var made: [String] = []
        defer { for key in made { _ = try? client.delete(key) } }  // swept some day otherwise
        var options = ObjectClient.PutOptions()
        options.isCreateOnly = true
        let key = "\(base)-0"
        made.append(key)
        let first = Array("first".utf8)
        switch try client.put(key, first, options) {
        case .unsupported: return CreateOnly(verdict: .refused)
        // A request that was repeated meets its own work.
        case .made, .exists: break
        }
        switch try client.put(key, Array("second".utf8), options) {
        case .made: return CreateOnly(verdict: .ignored)
        case .unsupported: return CreateOnly(verdict: .refused)
        case .exists: break
        }
        guard try client.get(key) == first else { return CreateOnly(verdict: .ignored) }
        var found = CreateOnly(verdict: .honoured)
        let keys = (1...max(1, rounds)).map { "\(base)-\($0)" }
        made += keys
        for start in stride(from: 0, to: keys.count, by: keysAtOnce) {
            let some = Array(keys[start..<min(start + keysAtOnce, keys.count)])
            let winners = try race(client, some)
            found.rounds += some.count
            found.winnersMax = max(found.winnersMax, winners)
            if winners > 1 {
                found.verdict = .ignored
                break
            }
        }
        return found
    }

    /// Races at the same time: some stores take seconds over one.
    private static let keysAtOnce = 4

    /// For each key several puts at the same time: the most of them that were told that they made
    /// it. Those whose answer was lost and who met their own bytes do not count.
    private static func race(
        _ client: ObjectClient, _ keys: [String]
    ) throws(ShipError) -> Int {
        var options = ObjectClient.PutOptions()
        options.isCreateOnly = true
        var started: [(key: String, bytes: String, put: ObjectClient.Started)] = []
        for racer in 0..<racers {
            for key in keys {
                let bytes = "racer \(racer)"
                let request = client.putRequest(key, ByteBuffer(string: bytes), options)
                started.append((key, bytes, client.begin(request)))
            }
        }
        var winners: [String: [String]] = [:]
        var failure: ShipError?
        for one in started {
            do throws(ShipError) {
                if try client.outcome(ofPut: client.settle(one.put)) == .made {
                    winners[one.key, default: []].append(one.bytes)
                }
            } catch { failure = failure ?? error }
        }
        if let failure { throw failure }
        var most = 0
        for (key, told) in winners {
            guard let there = try client.get(key) else { continue }
            // One who was told so, and whose bytes are not there, was overwritten.
            let isTrue = told.allSatisfy { Array($0.utf8) == there }
            most = max(most, isTrue ? told.count : max(2, told.count))
        }
        return most
    }

    // MARK: - the rest

    private static func basics(
        _ client: ObjectClient, _ base: String, _ report: inout ProbeReport
    ) throws(ShipError) {
        let key = "\(base)-object"
        let bytes = (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        var options = ObjectClient.PutOptions()
        options.metadata = [("logdisk-probe", "yes")]
        _ = try client.put(key, bytes, options)
        report.metadata =
            try client.head(key)?.metadata["logdisk-probe"] == "yes" ? .honoured : .ignored
        var request = ObjectClient.Request(.GET, .get, key: key)
        request.headers = [("range", "bytes=1000-1099")]
        let answer = try client.call(request)
        let isPart = answer.status == 206 && answer.body == Array(bytes[1000..<1100])
        report.rangedReads = isPart ? .honoured : .ignored
        let listed = try client.list(key).objects.map(\.key)
        report.listAfterWrite = listed == [key] ? .honoured : .ignored
    }

    private static func parts(
        _ client: ObjectClient, _ base: String, _ report: inout ProbeReport
    ) throws(ShipError) {
        do throws(ShipError) {
            let key = "\(base)-parts"
            let first = try upload(client, key, isCreateOnly: false)
            report.multipart = first == .made ? .honoured : .refused
            guard first == .made else { return }
            switch try upload(client, key, isCreateOnly: true) {
            case .made: report.createOnlyParts = .ignored
            case .exists: report.createOnlyParts = .honoured
            case .unsupported: report.createOnlyParts = .refused
            }
            _ = try client.delete(key)
        } catch {
            switch error {
            case .stopped, .unreachable, .busy: throw error
            default: if report.multipart == .unknown { report.multipart = .refused }
            }
        }
    }

    private static func upload(
        _ client: ObjectClient, _ key: String, isCreateOnly: Bool
    ) throws(ShipError) -> PutOutcome {
        let id = try client.createUpload(key, metadata: [])
        let body = ByteBuffer(string: "the only part")
        let part = try client.tag(
            ofPart: client.call(
                client.partRequest(key, id, number: 1, body, isPaced: false)))
        let outcome = try client.complete(
            key, id, [(1, part)], byteCount: UInt64(body.readableBytes), isCreateOnly: isCreateOnly)
        if outcome != .made { try client.abort(key, id) }
        return outcome
    }

    /// A body that its signed digest does not fit, as if it had been changed on the way.
    private static func checksums(
        _ client: ObjectClient, _ base: String
    ) throws(ShipError) -> ProbeVerdict {
        let key = "\(base)-digest"
        var options = ObjectClient.PutOptions()
        options.hash = ObjectClient.hash(ByteBuffer(string: "what was meant"))
        let request = client.putRequest(key, ByteBuffer(string: "what has come"), options)
        let verdict: ProbeVerdict
        do throws(ShipError) {
            let answer = try client.callOnce(request)
            verdict = (200...299).contains(answer.status) ? .ignored : .honoured
        } catch {
            switch error {
            case .stopped: throw error
            default: verdict = .honoured
            }
        }
        _ = try client.delete(key)
        return verdict
    }

    private static func deletion(
        _ client: ObjectClient, _ base: String, _ report: inout ProbeReport
    ) throws(ShipError) {
        let key = "\(base)-object"
        guard case .gone = try client.delete(key) else {
            report.deletes = .refused
            return
        }
        report.deletes = .honoured
        report.readAfterDelete = try client.get(key) == nil ? .honoured : .ignored
    }
}
