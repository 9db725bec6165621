// The planner: sizes in, assignment out. Pure and deterministic: no clock, no random numbers, no
// hash order; the same input gives the same plan, byte for byte.
//
// Modes, each in a file of its own: split-first and small-first as the source documents claim them
// (docs/requirements.md, S29 to S57), balanced with everything else. docs/spreading.md says what
// each guarantees and why. In time O((n + m) log n + n log m) for n items on m devices, as long as
// the next device in rank has room for the next item.

public enum SpreadPlanner {
    typealias Packed = SpreadItems.Packed

    /// The most items of one plan.
    public static let itemsMax = 1 << 28
    static let copiesMax = 64

    /// Plans all entries of `sources` over the devices that are available. A further hard link is
    /// an item without bytes, at the end of the list, on the device of its content's first piece.
    public static func plan(
        _ sources: SourceList, over devices: [SpreadDevice], _ options: SpreadOptions
    ) throws(SpreadError) -> SpreadPlan {
        try check(options)
        let needed = try totals(sources, devices, options)
        let threshold = try self.threshold(sources, over: devices)
        var table = DeviceTable(devices)
        guard options.copies <= table.usable.count else {
            throw .tooFewDevices(copies: options.copies, available: table.usable.count)
        }
        let room = table.room(most: needed.total)
        guard room >= needed.copied else { throw .doesNotFit(needed: needed.copied, room: room) }

        var packed: [Packed]
        var sitesDiffer = true
        switch options.mode {
        case .splitFirst:
            packed = try splitFirst(sources, &table, options, threshold: threshold)
        case .smallFirst:
            packed = try smallFirst(sources, &table, options, threshold: threshold)
        case .balanced:
            (packed, sitesDiffer) = try balanced(sources, &table, options)
        }
        addLinks(sources, &packed, &table)
        return SpreadPlan(
            threshold: threshold, mode: options.mode, order: options.order,
            copies: options.copies, sitesDiffer: sitesDiffer, devices: table.planned,
            items: SpreadItems(packed))
    }

    /// ceil(total / available devices), and nothing else (S32).
    public static func threshold(
        _ sources: SourceList, over devices: [SpreadDevice]
    ) throws(SpreadError) -> UInt64 {
        if devices.isEmpty { throw .noDevice }
        guard let total = sources.total else { throw .tooLarge }
        guard
            let threshold = Threshold.bytes(
                total: total, available: devices.count { $0.isAvailable })
        else { throw .noDeviceAvailable }
        return threshold
    }

    // MARK: - checks

    private static func check(_ options: SpreadOptions) throws(SpreadError) {
        if options.copies < 1 || options.copies > copiesMax {
            throw .badOption(option: "copies", reason: "not between 1 and \(copiesMax)")
        }
        if options.splitOver == 0 {
            throw .badOption(option: "split-over", reason: "must be above 0")
        }
        if options.block == 0 { throw .badOption(option: "block", reason: "must be above 0") }
        if options.mode == .balanced { return }
        if options.copies > 1 { throw .balancedOnly(option: "copies") }
        if options.itemCost > 0 { throw .balancedOnly(option: "item-cost") }
        if !options.keepTogether.isEmpty { throw .balancedOnly(option: "keep-together") }
    }

    /// The bytes of one copy and of all. Loads, too, must stay within 64 bits.
    private static func totals(
        _ sources: SourceList, _ devices: [SpreadDevice], _ options: SpreadOptions
    ) throws(SpreadError) -> (total: UInt64, copied: UInt64) {
        if devices.count > Int(UInt16.max) { throw .tooManyDevices }
        guard let total = sources.total else { throw .tooLarge }
        let copied = total.multipliedReportingOverflow(by: UInt64(options.copies))
        if copied.overflow { throw .tooLarge }
        // Each copy of each file may cost one item, each device one more for a piece.
        let itemCount = UInt64(sources.count) * UInt64(options.copies) + UInt64(devices.count)
        var most = Int128(copied.partialValue) + Int128(itemCount) * Int128(options.itemCost)
        for device in devices {
            precondition((1...SpreadDevice.weightMax).contains(device.weight))
            most += Int128(device.fill) + Int128(device.itemCount) * Int128(options.itemCost)
        }
        if most + Int128(options.block) > Int128(UInt64.max) { throw .tooLarge }
        return (total, copied.partialValue)
    }

    // MARK: - what all modes share

    /// All entries but further hard links, whole.
    static func wholeFiles(
        _ sources: SourceList, where isIncluded: (Int) -> Bool = { _ in true }
    ) -> [Packed] {
        var result: [Packed] = []
        result.reserveCapacity(sources.count)
        for entry in 0..<sources.count
        where sources.leader(of: entry) == nil && isIncluded(entry) {
            result.append(
                Packed(
                    offset: 0, size: sources.size(entry), entry: UInt32(entry), device: 0,
                    rule: .leastFilled))
        }
        return result
    }

    /// Files above `limit` become segments of `limit` and one of the rest.
    static func split(
        _ files: [Packed], above limit: UInt64, rule: SpreadRule
    ) throws(SpreadError) -> [Packed] {
        var count = 0
        for file in files {
            let pieces = max(1, file.size / limit + (file.size % limit == 0 ? 0 : 1))
            count += Int(clamping: min(pieces, UInt64(itemsMax) + 1))
            if count > itemsMax {
                throw .badOption(
                    option: "split-over", reason: "more than \(itemsMax) segments would result")
            }
        }
        if count == files.count { return files }
        var result: [Packed] = []
        result.reserveCapacity(count)
        for file in files {
            if file.size <= limit {
                result.append(file)
                continue
            }
            var piece = file
            piece.rule = rule
            var rest = file.size
            while rest > 0 {
                piece.size = min(rest, limit)
                result.append(piece)
                piece.offset += piece.size
                rest -= piece.size
            }
        }
        return result
    }

    /// Whether `a` comes before `b` in the sorted list: by size, then by entry, offset and device.
    static func precedes(_ a: Packed, _ b: Packed, _ order: SpreadOrder) -> Bool {
        if a.size != b.size { return order == .descending ? a.size > b.size : a.size < b.size }
        if a.entry != b.entry { return a.entry < b.entry }
        return a.offset != b.offset ? a.offset < b.offset : a.device < b.device
    }

    static func sort(_ items: inout [Packed], _ order: SpreadOrder) {
        items.sort { precedes($0, $1, order) }
    }

    /// Items for the further hard links, beside the first piece of each copy of their content.
    private static func addLinks(
        _ sources: SourceList, _ items: inout [Packed], _ table: inout DeviceTable
    ) {
        var links: [(leader: UInt32, entry: UInt32)] = []
        for entry in 0..<sources.count {
            if let leader = sources.leader(of: entry) {
                links.append((UInt32(leader), UInt32(entry)))
            }
        }
        if links.isEmpty { return }
        var homes: [(leader: UInt32, device: UInt16)] = []
        var isLeader = [Bool](repeating: false, count: sources.count)
        for link in links { isLeader[Int(link.leader)] = true }
        for item in items where item.offset == 0 && isLeader[Int(item.entry)] {
            homes.append((item.entry, item.device))
        }
        homes.sort { ($0.leader, $0.device) < ($1.leader, $1.device) }
        for link in links {
            var low = 0
            var high = homes.count
            while low < high {
                let middle = (low + high) / 2
                if homes[middle].leader < link.leader { low = middle + 1 } else { high = middle }
            }
            while low < homes.count, homes[low].leader == link.leader {
                items.append(
                    Packed(
                        offset: 0, size: 0, entry: link.entry, device: homes[low].device,
                        rule: .link))
                table.add(0, to: Int(homes[low].device))
                low += 1
            }
        }
    }
}
