// Every list of up to six files of sizes 0 to 6 on one to four devices: the claimed modes are the
// claims, done directly and slowly; balanced is the optimum that trying everything finds.

import Spread
import Testing

@Suite struct ExhaustivePlanTests {
    /// Calls `body` with every list.
    private static func forEachList(_ count: Int, _ body: ([UInt64]) throws -> Void) rethrows {
        var sizes = [UInt64](repeating: 0, count: count)
        while true {
            try body(sizes)
            guard let place = sizes.firstIndex(where: { $0 < 6 }) else { return }
            for before in 0..<place { sizes[before] = 0 }
            sizes[place] += 1
        }
    }

    @Test(arguments: [SpreadOrder.descending, .ascending])
    func splitFirstIsTheClaim(_ order: SpreadOrder) throws {
        let options = PlanModel.options(.splitFirst, order)
        try compare(options) { PlanModel.splitFirst($0, $1, order) }
    }

    @Test(arguments: [SpreadOrder.descending, .ascending])
    func smallFirstIsTheClaim(_ order: SpreadOrder) throws {
        let options = PlanModel.options(.smallFirst, order)
        try compare(options) { PlanModel.smallFirst($0, $1, order) }
    }

    private func compare(
        _ options: SpreadOptions, _ claim: ([UInt64], Int) -> [PlanModel.Piece]
    ) throws {
        for count in 0...6 {
            try Self.forEachList(count) { sizes in
                let sources = PlanModel.sources(sizes)
                for devices in 1...4 {
                    let plan = try SpreadPlanner.plan(
                        sources, over: PlanModel.devices(devices), options)
                    let expected = claim(sizes, devices)
                    try #require(
                        PlanModel.pieces(plan) == expected, "\(sizes) on \(devices)")
                }
            }
        }
    }

    @Test func balancedIsTheOptimum() throws {
        let optimum = (1...4).map { devices in
            (0...36).map { Self.optimum(total: $0, devices: devices) }
        }
        for count in 0...6 {
            try Self.forEachList(count) { sizes in
                let sources = PlanModel.sources(sizes)
                let total = Int(sizes.reduce(0, +))
                for devices in 1...4 {
                    let table = PlanModel.devices(devices)
                    let plan = try SpreadPlanner.plan(
                        sources, over: table, PlanModel.options(.balanced, block: 1))
                    let fault = PlanModel.fault(plan, sources, table)
                    try #require(fault == nil, "\(sizes) on \(devices): \(fault ?? "")")
                    try #require(
                        plan.makespan == optimum[devices - 1][total], "\(sizes) on \(devices)")
                    try #require(PlanModel.cuts(plan, sources) <= devices - 1)
                }
            }
        }
    }

    /// The least that the fullest device can hold: tries every way to divide the bytes.
    private static func optimum(total: Int, devices: Int) -> UInt64 {
        if devices == 1 { return UInt64(total) }
        return (0...total).map { first in
            max(UInt64(first), optimum(total: total - first, devices: devices - 1))
        }.min() ?? 0
    }

    /// Without need nothing is cut: where whole files, the largest first, end at the optimum.
    @Test func nothingIsCutWithoutNeed() throws {
        try Self.forEachList(5) { sizes in
            let sources = PlanModel.sources(sizes)
            for devices in 1...4 {
                let plan = try SpreadPlanner.plan(
                    sources, over: PlanModel.devices(devices),
                    PlanModel.options(.balanced, block: 1))
                if PlanModel.longestFirst(sizes, devices) == plan.threshold {
                    try #require(PlanModel.cuts(plan, sources) == 0, "\(sizes) on \(devices)")
                }
            }
        }
    }
}
