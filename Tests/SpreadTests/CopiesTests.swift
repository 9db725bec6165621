// Copies on different devices and sites; hard links and folders that stay together.

import Spread
import Testing

@Suite struct CopiesTests {
    @Test func copiesAreOnDifferentDevices() throws {
        for seed: UInt64 in 0..<8000 {
            let sizes = PlanModel.sizes(seed)
            let sources = PlanModel.sources(sizes)
            let devices = PlanModel.devices(Int(seed % 6) + 1)
            let copies = Int(seed / 6 % 4) + 1
            let options = PlanModel.options(.balanced, copies: copies)
            if copies > devices.count {
                #expect(
                    throws: SpreadError.tooFewDevices(copies: copies, available: devices.count)
                ) {
                    try SpreadPlanner.plan(sources, over: devices, options)
                }
                continue
            }
            let plan = try SpreadPlanner.plan(sources, over: devices, options)
            let fault = PlanModel.fault(plan, sources, devices, copies: copies)
            try #require(fault == nil, "seed \(seed): \(fault ?? "")")
            let m = UInt64(devices.count)
            let total = sizes.reduce(0, +) * UInt64(copies)
            #expect(plan.makespan * m <= total + 4096 * m, "seed \(seed)")
            #expect(PlanModel.cuts(plan, sources, copies: copies) <= devices.count - 1)
        }
    }

    /// Two sites or more: no byte has two copies at one.
    @Test func copiesAreOnDifferentSites() throws {
        for seed: UInt64 in 0..<8000 {
            var random = Seeded(seed)
            let sources = PlanModel.sources(PlanModel.sizes(seed))
            let siteCount = Int(random.below(3)) + 2
            let devices = (0..<siteCount + Int(random.below(4))).map { number in
                let site = number < siteCount ? number : Int(random.below(UInt64(siteCount)))
                return SpreadDevice(
                    name: "\(number)",
                    weight: SpreadDevice.weightUnit * (random.below(3) + 1),
                    site: site == 0 ? nil : "s\(site)")
            }
            let copies = Int(random.below(UInt64(siteCount - 1))) + 2
            var options = PlanModel.options(.balanced, copies: copies)
            options.itemCost = [0, 700][Int(seed % 2)]
            let plan = try SpreadPlanner.plan(sources, over: devices, options)
            let fault =
                PlanModel.fault(plan, sources, devices, copies: copies)
                ?? Self.siteFault(plan, sources, devices)
            try #require(fault == nil, "seed \(seed): \(fault ?? "")")
            #expect(plan.sitesDiffer)
        }
    }

    /// nil: no byte is twice at one site.
    static func siteFault(
        _ plan: SpreadPlan, _ sources: SourceList, _ devices: [SpreadDevice]
    ) -> String? {
        var spans: [String: [(entry: Int, start: UInt64, end: UInt64)]] = [:]
        for item in plan.items {
            spans[devices[item.device].site ?? "", default: []].append(
                (item.entry, item.offset, item.offset + item.size))
        }
        for (site, list) in spans {
            let sorted = list.sorted { ($0.entry, $0.start, $0.end) < ($1.entry, $1.start, $1.end) }
            for (a, b) in zip(sorted, sorted.dropFirst())
            where a.entry == b.entry && (b.start < a.end || a.start == b.start) {
                return "f\(a.entry) twice at '\(site)'"
            }
        }
        return nil
    }

    /// Enough sites, but no room on them: the copies share a site, and the plan says so.
    @Test func whereSitesHaveNoRoomThePlanSaysSo() throws {
        let sources = PlanModel.sources([100])
        let devices = [
            SpreadDevice(name: "a"), SpreadDevice(name: "b"),
            SpreadDevice(name: "c", capacity: 10, site: "far"),
        ]
        let plan = try SpreadPlanner.plan(
            sources, over: devices, PlanModel.options(.balanced, copies: 2))
        #expect(PlanModel.fault(plan, sources, devices, copies: 2) == nil)
        #expect(!plan.sitesDiffer)
    }

    @Test func copiesRespectCapacities() throws {
        for seed: UInt64 in 0..<3000 {
            var random = Seeded(seed)
            let sources = PlanModel.sources(PlanModel.sizes(seed))
            let total = try #require(sources.total)
            var devices = (0..<4).map {
                SpreadDevice(name: "\($0)", capacity: random.below(total + 1))
            }
            let room = devices.reduce(UInt64(0)) { $0 + min(total, $1.capacity ?? 0) }
            if room < 2 * total {
                devices.append(SpreadDevice(name: "4", capacity: 2 * total - room))
                if 2 * total - room > total {
                    devices.append(SpreadDevice(name: "5", capacity: total))
                }
            }
            let plan = try SpreadPlanner.plan(
                sources, over: devices, PlanModel.options(.balanced, copies: 2))
            let fault = PlanModel.fault(plan, sources, devices, copies: 2)
            try #require(fault == nil, "seed \(seed): \(fault ?? "")")
        }
    }

    // MARK: - hard links

    @Test func furtherHardLinksGoWithTheirContent() throws {
        for mode in SpreadMode.allCases {
            var list = SourceList()
            let source = list.addSource("/data")
            let first = list.add(source: source, path: "a".utf8, size: 100_000)
            list.add(source: source, path: "b".utf8, size: 70_000)
            list.add(source: source, path: "c".utf8, size: 100_000, linkedTo: first)
            list.add(source: source, path: "d".utf8, size: 100_000, linkedTo: first)
            #expect(list.total == 170_000)
            #expect(list.fileSize(2) == 100_000)
            let devices = PlanModel.devices(2)
            let plan = try SpreadPlanner.plan(list, over: devices, PlanModel.options(mode))
            #expect(PlanModel.fault(plan, list, devices) == nil)
            let home = try #require(plan.items.first { $0.entry == 0 && $0.offset == 0 })
            let links = plan.items.suffix(2)
            #expect(links.map(\.entry) == [2, 3])
            #expect(links.allSatisfy { $0.device == home.device && $0.rule == .link })
        }
    }

    @Test func eachCopyHasItsHardLinks() throws {
        var list = SourceList()
        let source = list.addSource("/data")
        list.add(source: source, path: "a".utf8, size: 10)
        list.add(source: source, path: "b".utf8, size: 10, linkedTo: 0)
        let plan = try SpreadPlanner.plan(
            list, over: PlanModel.devices(3), PlanModel.options(.balanced, copies: 2))
        let content = Set(plan.items.filter { $0.entry == 0 }.map(\.device))
        let links = Set(plan.items.filter { $0.entry == 1 }.map(\.device))
        #expect(content == links && content.count == 2)
    }

    // MARK: - folders kept together

    private func tree(_ files: [(path: String, size: UInt64)]) -> SourceList {
        var list = SourceList()
        let source = list.addSource("/data")
        for file in files { list.add(source: source, path: file.path.utf8, size: file.size) }
        return list
    }

    @Test func foldersStayTogether() throws {
        let list = tree([
            ("photos/1", 40), ("photos/2", 30), ("photos-2/1", 90), ("mail", 100),
            ("photos/sub/3", 30),
        ])
        var options = PlanModel.options(.balanced, block: 1)
        options.keepTogether = [.init(source: 0, path: Array("photos".utf8))]
        let devices = PlanModel.devices(3)
        let plan = try SpreadPlanner.plan(list, over: devices, options)
        #expect(PlanModel.fault(plan, list, devices) == nil)
        let homes = plan.items.filter { [0, 1, 4].contains($0.entry) }
        #expect(Set(homes.map(\.device)).count == 1)
        #expect(homes.count == 3 && homes.allSatisfy { $0.rule == .together })
        // 290 bytes: the folder's 100 exceed the level, the rest is balanced over the others.
        #expect(plan.devices.map(\.bytes).sorted() == [95, 95, 100])
    }

    @Test func foldersThatShareAHardLinkAreOne() throws {
        var list = tree([("a/1", 10), ("b/1", 20), ("c/1", 70)])
        list.add(source: 0, path: "b/2".utf8, size: 10, linkedTo: 0)
        var options = PlanModel.options(.balanced)
        options.keepTogether = ["a", "b"].map { .init(source: 0, path: Array($0.utf8)) }
        let devices = PlanModel.devices(3)
        let plan = try SpreadPlanner.plan(list, over: devices, options)
        #expect(PlanModel.fault(plan, list, devices) == nil)
        let homes = plan.items.filter { $0.entry != 2 }.map(\.device)
        #expect(Set(homes).count == 1 && homes.count == 3)
    }

    @Test func aFolderThatFitsNowhereIsRefused() {
        let list = tree([("a/1", 60), ("a/2", 60), ("b", 10)])
        var options = PlanModel.options(.balanced)
        options.keepTogether = [.init(source: 0, path: Array("a".utf8))]
        let devices = ([70, 100] as [UInt64]).map { SpreadDevice(name: "\($0)", capacity: $0) }
        #expect(
            throws: SpreadError.togetherDoesNotFit(
                path: Array("a".utf8), needed: 120, room: 100)
        ) { try SpreadPlanner.plan(list, over: devices, options) }
        options.keepTogether = [.init(source: 0, path: Array("nothing".utf8))]
        #expect(throws: SpreadError.togetherIsEmpty(path: Array("nothing".utf8))) {
            try SpreadPlanner.plan(list, over: devices, options)
        }
    }

    @Test(arguments: [SpreadMode.splitFirst, .smallFirst])
    func theClaimedModesTakeBytesAlone(_ mode: SpreadMode) {
        let sources = PlanModel.sources([1])
        var options = PlanModel.options(mode, copies: 2)
        #expect(throws: SpreadError.balancedOnly(option: "copies")) {
            try SpreadPlanner.plan(sources, over: PlanModel.devices(2), options)
        }
        options.copies = 1
        options.itemCost = 1
        #expect(throws: SpreadError.balancedOnly(option: "item-cost")) {
            try SpreadPlanner.plan(sources, over: PlanModel.devices(2), options)
        }
    }
}
