// A device fails in mid-run: what was to be there is planned over the others (S43 to S45).

import Spread
import Testing

@Suite struct ReplanTests {
    /// Each device of each plan fails after each share of its items: everything left is covered
    /// once, and the others end level.
    @Test(arguments: SpreadMode.allCases)
    func theOthersTakeItEvenly(_ mode: SpreadMode) throws {
        for seed: UInt64 in 0..<2000 {
            let sources = PlanModel.sources(PlanModel.sizes(seed))
            var devices = PlanModel.devices(Int(seed % 4) + 2)
            let options = PlanModel.options(mode, seed % 2 == 0 ? .ascending : .descending)
            let plan = try SpreadPlanner.plan(sources, over: devices, options)
            let failed = Int(seed / 4 % UInt64(devices.count))
            let lost = plan.items.filter { $0.device == failed }
            let remainders = lost.dropFirst(Int(seed % 3) * lost.count / 3).map {
                SpreadPlanner.Remainder(entry: $0.entry, offset: $0.offset, size: $0.size)
            }
            for index in devices.indices {
                devices[index].fill = plan.devices[index].bytes
                devices[index].itemCount = plan.devices[index].items
            }
            devices[failed].isAvailable = false
            let replan = SpreadPlanner.replan(remainders, of: sources, over: devices, options)
            #expect(replan.unplaced.isEmpty)
            let fault = Self.coverFault(replan.items, of: remainders, devices)
            try #require(fault == nil, "seed \(seed): \(fault ?? "")")
            try Self.expectLevel(replan, devices, seed)
        }
    }

    /// No device that took anything stands more than a block above the level.
    private static func expectLevel(
        _ replan: SpreadPlanner.Replan, _ devices: [SpreadDevice], _ seed: UInt64
    ) throws {
        let left = devices.indices.filter { devices[$0].isAvailable }
        let added = left.reduce(UInt64(0)) { $0 + replan.devices[$1].bytes - devices[$1].fill }
        var level: UInt64 = 0
        var step = UInt64(1) << 62
        while step > 0 {  // the lowest level that holds what was added
            let space = left.reduce(Int128(0)) { sum, index in
                let height = level + step - 1
                return sum
                    + (height > devices[index].fill ? Int128(height - devices[index].fill) : 0)
            }
            if space < Int128(added) { level += step }
            step /= 2
        }
        for index in left where replan.devices[index].bytes > devices[index].fill {
            try #require(replan.devices[index].bytes <= level + 4095, "seed \(seed)")
        }
    }

    private static func coverFault(
        _ items: SpreadItems, of remainders: [SpreadPlanner.Remainder], _ devices: [SpreadDevice]
    ) -> String? {
        for remainder in remainders {
            let end = remainder.offset + remainder.size
            let parts = items.filter {
                $0.entry == remainder.entry && $0.offset >= remainder.offset
                    && $0.offset + $0.size <= end
            }.sorted { $0.offset < $1.offset }
            var place = remainder.offset
            for part in parts {
                if part.offset != place { return "f\(remainder.entry) at \(place)" }
                if !devices[part.device].isAvailable { return "on a device that is away" }
                if remainder.holders.contains(part.device) { return "beside its copy" }
                place += part.size
            }
            if place != end || parts.isEmpty { return "f\(remainder.entry) ends at \(place)" }
        }
        let bytes = remainders.reduce(0) { $0 + $1.size }
        return items.reduce(0) { $0 + $1.size } == bytes ? nil : "sum"
    }

    @Test func aCopyGoesElsewhereThanTheOthers() throws {
        for seed: UInt64 in 0..<2000 {
            let sources = PlanModel.sources(PlanModel.sizes(seed, most: 12))
            var devices = PlanModel.devices(4)
            for index in devices.indices { devices[index].site = "s\(index / 2)" }
            let options = PlanModel.options(.balanced, copies: 2)
            let plan = try SpreadPlanner.plan(sources, over: devices, options)
            // Device 0 fails; each piece of it has its other copy, perhaps cut, on other devices.
            let remainders = plan.items.filter { $0.device == 0 }.map { item in
                let end = item.offset + item.size
                let others = plan.items.filter {
                    $0.device != 0 && $0.entry == item.entry
                        && ($0.size == 0 || $0.offset < end && item.offset < $0.offset + $0.size)
                }
                return SpreadPlanner.Remainder(
                    entry: item.entry, offset: item.offset, size: item.size,
                    holders: Set(others.map(\.device)).sorted())
            }
            for index in devices.indices { devices[index].fill = plan.devices[index].bytes }
            devices[0].isAvailable = false
            let replan = SpreadPlanner.replan(remainders, of: sources, over: devices, options)
            let placed = remainders.filter { !replan.unplaced.contains($0) }
            let fault = Self.coverFault(replan.items, of: placed, devices)
            try #require(fault == nil, "seed \(seed): \(fault ?? "")")
            // Copies were on two sites, the other device of the failed one's site has room.
            #expect(replan.unplaced.isEmpty && replan.items.allSatisfy { $0.device == 1 })
        }
    }

    /// What does not fit is listed, as whole files, and everything else is placed.
    @Test func whatDoesNotFitIsListed() {
        let sources = PlanModel.sources([100, 60, 30, 0])
        var devices = PlanModel.devices(3)
        devices[0].isAvailable = false
        devices[1].capacity = 50
        devices[2].capacity = 45
        devices[2].fill = 5
        let remainders = [100, 60, 30, 0].enumerated().map {
            SpreadPlanner.Remainder(entry: $0, offset: 0, size: $1)
        }
        let replan = SpreadPlanner.replan(
            remainders, of: sources, over: devices, PlanModel.options(.balanced))
        #expect(replan.unplaced == [remainders[0]])
        #expect(replan.items.reduce(0) { $0 + $1.size } == 90)
        #expect(replan.devices.map(\.bytes) == [0, 50, 45])
    }

    @Test func noDeviceIsLeft() {
        let sources = PlanModel.sources([5, 0])
        var devices = PlanModel.devices(1)
        devices[0].isAvailable = false
        let remainders = [5, 0].enumerated().map {
            SpreadPlanner.Remainder(entry: $0, offset: 0, size: UInt64($1))
        }
        let replan = SpreadPlanner.replan(
            remainders, of: sources, over: devices, PlanModel.options(.balanced))
        #expect(replan.unplaced == remainders && replan.items.isEmpty)
    }

    @Test func hardLinksGoWithTheirContentAgain() {
        var list = SourceList()
        let source = list.addSource("/data")
        list.add(source: source, path: "a".utf8, size: 10)
        list.add(source: source, path: "b".utf8, size: 10, linkedTo: 0)
        var devices = PlanModel.devices(3)
        devices[0].isAvailable = false
        devices[1].fill = 100
        let replan = SpreadPlanner.replan(
            [.init(entry: 1, offset: 0, size: 0), .init(entry: 0, offset: 0, size: 10)],
            of: list, over: devices, PlanModel.options(.balanced))
        #expect(replan.items.map(\.device) == [2, 2])
        #expect(replan.items.map(\.rule) == [.replanned, .link])
    }
}
