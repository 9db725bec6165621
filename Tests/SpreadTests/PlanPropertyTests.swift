// 100,000 seeded lists of seven kinds, and one of a million files: every byte once, the bounds of
// each mode, each step of the claimed modes replayed.

import Spread
import Testing

@Suite struct PlanPropertyTests {
    /// Split into parts that may run at once.
    private static let parts = 10
    private static let listsPerPart = 10_000

    @Test(arguments: 0..<parts)
    func bounds(_ part: Int) throws {
        for number in 0..<Self.listsPerPart {
            let seed = UInt64(part * Self.listsPerPart + number)
            let sizes = PlanModel.sizes(seed)
            let devices = Int(seed / 7 % 8) + 1
            let sources = PlanModel.sources(sizes)
            let table = PlanModel.devices(devices)
            for mode in SpreadMode.allCases {
                for order in SpreadOrder.allCases where mode != .balanced || seed % 2 == 0 {
                    let plan = try SpreadPlanner.plan(
                        sources, over: table, PlanModel.options(mode, order))
                    let fault =
                        PlanModel.fault(plan, sources, table)
                        ?? (mode == .balanced
                            ? nil : PlanModel.replayFault(plan, sources, devices))
                        ?? Self.boundFault(plan, sizes, sources, devices)
                    try #require(
                        fault == nil, "seed \(seed), \(mode), \(order): \(fault ?? "")")
                }
            }
        }
    }

    /// Bounds of docs/spreading.md. Where threshold stands for total/m, it is rounded up: one
    /// segment of that size is always possible.
    static func boundFault(
        _ plan: SpreadPlan, _ sizes: [UInt64], _ sources: SourceList, _ devices: Int
    ) -> String? {
        let total = sizes.reduce(0, +)
        let m = UInt64(devices)
        if plan.threshold != (total + m - 1) / m { return "threshold" }
        switch (plan.mode, plan.order) {
        case (.splitFirst, .descending):
            // 2m/(m+1) of total/m
            if plan.makespan > max(plan.threshold, 2 * total / (m + 1)) { return "descending" }
        case (.splitFirst, .ascending):
            // 2 - 1/m of total/m
            if plan.makespan * m > total + plan.threshold * (m - 1) { return "ascending" }
        case (.smallFirst, _):
            let small = sizes.filter { $0 <= plan.threshold }
            let largest = small.max() ?? 0
            let bound = max(plan.threshold * m, small.reduce(0, +) + largest * (m - 1))
            if plan.makespan * m > bound { return "small-first" }
        case (.balanced, _):
            if plan.makespan * m > total + 4096 * m { return "balanced" }
            if PlanModel.cuts(plan, sources) > devices - 1 { return "cuts" }
            if plan.makespan > PlanModel.longestFirst(sizes, devices) { return "worse than LPT" }
            let isAligned = plan.items.allSatisfy { $0.offset % 4096 == 0 }
            if !isAligned { return "cut within a block" }
        }
        return nil
    }

    @Test func aMillionFiles() throws {
        var random = Seeded(6)
        var list = SourceList()
        let source = list.addSource("/data")
        list.reserve(1_000_000, pathByteCount: 16_000_000)
        for number in 0..<1_000_000 {
            list.add(
                source: source, path: "folder/\(number)".utf8,
                size: (UInt64(1) << random.below(31)) + random.below(1000))
        }
        let table = PlanModel.devices(12)
        let sizes = (0..<list.count).map { list.size($0) }
        for mode in SpreadMode.allCases {
            for order in SpreadOrder.allCases {
                let options = PlanModel.options(mode, order)
                let plan = try SpreadPlanner.plan(list, over: table, options)
                #expect(PlanModel.fault(plan, list, table) == nil)
                #expect(Self.boundFault(plan, sizes, list, 12) == nil, "\(mode) \(order)")
                if mode != .balanced {
                    #expect(PlanModel.replayFault(plan, list, 12) == nil, "\(mode) \(order)")
                }
            }
        }
    }

    /// The same input, the same plan, byte for byte.
    @Test func plansAreDeterministic() throws {
        for seed: UInt64 in 0..<300 {
            let sources = PlanModel.sources(PlanModel.sizes(seed))
            for mode in SpreadMode.allCases {
                let options = PlanModel.options(mode)
                let table = PlanModel.devices(5)
                let first = try SpreadPlanner.plan(sources, over: table, options)
                let second = try SpreadPlanner.plan(sources, over: table, options)
                #expect(PlanText.json(first, sources) == PlanText.json(second, sources))
            }
        }
    }

    /// Forced splits (S4): no item above the size, and the bounds hold all the same.
    @Test func splitOver() throws {
        for seed: UInt64 in 0..<3000 {
            let sizes = PlanModel.sizes(seed).map { $0 % 1_000_000 }
            let sources = PlanModel.sources(sizes)
            let table = PlanModel.devices(Int(seed % 5) + 1)
            for mode in SpreadMode.allCases {
                var options = PlanModel.options(mode, seed % 2 == 0 ? .ascending : .descending)
                options.splitOver = 20_000 + seed
                let plan = try SpreadPlanner.plan(sources, over: table, options)
                #expect(PlanModel.fault(plan, sources, table) == nil)
                #expect(plan.items.allSatisfy { $0.size <= 20_000 + seed }, "seed \(seed)")
                if mode == .balanced {
                    let total = sizes.reduce(0, +)
                    let m = UInt64(table.count)
                    #expect(plan.makespan * m <= total + 4096 * m)
                }
            }
        }
    }
}
