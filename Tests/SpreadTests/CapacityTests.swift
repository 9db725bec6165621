// Unequal devices: capacities never exceeded and always used up before data is refused, weights,
// items that cost, devices that are away.

import Spread
import Testing

@Suite struct CapacityTests {
    @Test(arguments: SpreadMode.allCases)
    func capacitiesHold(_ mode: SpreadMode) throws {
        for seed: UInt64 in 0..<6000 {
            var random = Seeded(seed)
            let sources = PlanModel.sources(PlanModel.sizes(seed, most: 20))
            let total = try #require(sources.total)
            let count = Int(random.below(5)) + 1
            // Shares of the total that add up to it exactly, or to a little more.
            var left = total + (seed % 3 == 0 ? 0 : random.below(total / 8 + 2))
            let devices = (0..<count).map { index in
                let share = index == count - 1 ? left : random.below(left + 1)
                left -= share
                return SpreadDevice(name: "\(index)", capacity: share)
            }
            var options = PlanModel.options(mode, seed % 2 == 0 ? .ascending : .descending)
            if mode == .balanced { options.itemCost = [0, 0, 1, 5000][Int(seed % 4)] }
            let plan = try SpreadPlanner.plan(sources, over: devices, options)
            let fault = PlanModel.fault(plan, sources, devices)
            try #require(fault == nil, "seed \(seed): \(fault ?? "")")
        }
    }

    @Test(arguments: SpreadMode.allCases)
    func whatCannotFitIsRefusedWithTheNumber(_ mode: SpreadMode) {
        let sources = PlanModel.sources([70, 40])
        let devices: [SpreadDevice] = ([60, 49] as [UInt64]).map {
            SpreadDevice(name: "\($0)", capacity: $0)
        }
        #expect(throws: SpreadError.doesNotFit(needed: 110, room: 109)) {
            try SpreadPlanner.plan(sources, over: devices, PlanModel.options(mode))
        }
    }

    /// When the balanced target does not fit, the others take more, evenly.
    @Test func aSmallDeviceIsFilledAndTheOthersRise() throws {
        let sources = PlanModel.sources([900, 60, 40])
        let devices = [nil, 100, nil].enumerated().map {
            SpreadDevice(name: "\($0)", capacity: $1)
        }
        let options = PlanModel.options(.balanced, block: 1)
        let plan = try SpreadPlanner.plan(sources, over: devices, options)
        #expect(PlanModel.fault(plan, sources, devices) == nil)
        #expect(plan.devices.map(\.bytes) == [450, 100, 450])
    }

    @Test func weightsShareTheLoad() throws {
        let unit = SpreadDevice.weightUnit
        for seed: UInt64 in 0..<4000 {
            var random = Seeded(seed)
            let sources = PlanModel.sources(PlanModel.sizes(seed))
            let total = Int128(try #require(sources.total))
            let devices = (0..<Int(seed % 6) + 1).map {
                SpreadDevice(name: "\($0)", weight: random.below(8 * unit) + 1)
            }
            let weights = devices.reduce(Int128(0)) { $0 + Int128($1.weight) }
            let plan = try SpreadPlanner.plan(
                sources, over: devices, PlanModel.options(.balanced))
            #expect(PlanModel.fault(plan, sources, devices) == nil)
            #expect(PlanModel.cuts(plan, sources) <= devices.count - 1)
            for (device, planned) in zip(devices, plan.devices) {
                let bound = total * Int128(device.weight) + 4096 * weights
                #expect(Int128(planned.bytes) * weights <= bound, "seed \(seed)")
            }
        }
    }

    /// Rates are weights when every device has one: all end together.
    @Test func ratesAreWeights() throws {
        let specs = try ["dir:/a?rate=100MB/s", "dir:/b?rate=300MB/s"].map {
            try DeviceSpec(parsing: $0)
        }
        let plan = try SpreadPlanner.plan(
            PlanModel.sources([4 << 30]), over: SpreadDevice.devices(specs),
            PlanModel.options(.balanced))
        #expect(plan.devices.map(\.bytes) == [1 << 30, 3 << 30])
        let one = try SpreadDevice.devices([specs[0], DeviceSpec(parsing: "dir:/c")])
        #expect(one.map(\.weight) == [SpreadDevice.weightUnit, SpreadDevice.weightUnit])
    }

    /// A million small files are not their bytes.
    @Test func itemsCost() throws {
        for seed: UInt64 in 0..<3000 {
            let sizes = PlanModel.sizes(seed)
            let sources = PlanModel.sources(sizes)
            let devices = PlanModel.devices(Int(seed % 5) + 1)
            let m = UInt64(devices.count)
            var options = PlanModel.options(.balanced)
            options.itemCost = 1 << (seed % 20)
            let plan = try SpreadPlanner.plan(sources, over: devices, options)
            #expect(PlanModel.fault(plan, sources, devices) == nil)
            #expect(PlanModel.cuts(plan, sources) <= devices.count - 1)
            let load = sizes.reduce(0) { $0 + $1 + options.itemCost }
            for device in plan.devices {
                let own = device.bytes + UInt64(device.items) * options.itemCost
                #expect(own * m <= load + (4096 + 2 * options.itemCost) * m, "seed \(seed)")
            }
        }
    }

    /// The divisor of the threshold is the number of devices that are there (S31).
    @Test(arguments: SpreadMode.allCases)
    func aDeviceThatIsAwayDoesNotCount(_ mode: SpreadMode) throws {
        let sources = PlanModel.sources([50, 31, 20, 0])
        var devices = PlanModel.devices(3)
        #expect(try SpreadPlanner.threshold(sources, over: devices) == 34)
        devices[1].isAvailable = false
        #expect(try SpreadPlanner.threshold(sources, over: devices) == 51)
        let plan = try SpreadPlanner.plan(sources, over: devices, PlanModel.options(mode))
        #expect(plan.threshold == 51)
        #expect(PlanModel.fault(plan, sources, devices) == nil)
        #expect(plan.devices[1].items == 0)
        devices[0].isAvailable = false
        devices[2].isAvailable = false
        #expect(throws: SpreadError.noDeviceAvailable) {
            try SpreadPlanner.plan(sources, over: devices, PlanModel.options(mode))
        }
        #expect(throws: SpreadError.noDevice) {
            try SpreadPlanner.plan(sources, over: [], PlanModel.options(mode))
        }
    }

    @Test func sizesThatNoNumberHoldsAreRefused() {
        let devices = PlanModel.devices(2)
        #expect(throws: SpreadError.tooLarge) {
            try SpreadPlanner.plan(
                PlanModel.sources([.max, 1]), over: devices, PlanModel.options(.balanced))
        }
        #expect(throws: SpreadError.tooLarge) {
            try SpreadPlanner.plan(
                PlanModel.sources([1 << 63]), over: devices,
                PlanModel.options(.balanced, copies: 2))
        }
        var options = PlanModel.options(.splitFirst)
        options.splitOver = 1
        #expect(throws: SpreadError.self) {
            try SpreadPlanner.plan(PlanModel.sources([1 << 40]), over: devices, options)
        }
    }

    /// Files without bytes are shared out by number.
    @Test func emptyFilesAreShared() throws {
        let plan = try SpreadPlanner.plan(
            PlanModel.sources(Array(repeating: 0, count: 9)), over: PlanModel.devices(3),
            PlanModel.options(.balanced))
        #expect(plan.devices.map(\.items) == [3, 3, 3])
        #expect(plan.items.allSatisfy { $0.rule == .empty })
    }
}
