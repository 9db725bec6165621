// Going on after an interruption: what of the sources is durable on the devices already, and what
// is left to plan. The rule: a remembered item counts when its file still has the stamp that it had
// then. Pure.

/// What a run begins with.
public struct ResumedItems: Sendable {
    /// Durable already.
    public var items: [StoredItem] = []
    /// To be taken back, by device.
    public var discards: [(device: Int, item: RememberedItem)] = []
    /// What is left of files that are there in part, and the devices that hold other copies.
    public var open: [(origin: EntryOrigin, range: Range<UInt64>, holders: [Int])] = []
    /// Files of which nothing is left to do, or that `open` names: by source and row.
    public var known: Set<EntryOrigin> = []

    public init() {}

    /// Compares what each device remembers with the sources.
    public init(
        _ left: [(device: Int, items: [RememberedItem])], _ sources: ScannedSources, copies: Int
    ) {
        var rows: [[UInt8]: EntryOrigin] = [:]
        let wanted = Set(left.flatMap { $0.items.map { $0.source + [0] + $0.path } })
        for (index, source) in sources.sources.enumerated() where !wanted.isEmpty {
            var paths = PathWalker()
            for row in 0..<source.table.count where source.table.rows[row].isFile {
                let key = source.name + [0] + paths.path(row, of: source.table)
                if wanted.contains(key) {
                    rows[key] = EntryOrigin(source: UInt16(index), row: UInt32(row))
                }
            }
        }
        var byRow: [EntryOrigin: [(device: Int, item: RememberedItem)]] = [:]
        for (device, items) in left {
            for item in items {
                let origin = rows[item.source + [0] + item.path]
                if let origin, Self.isGood(item, origin, sources) {
                    byRow[origin, default: []].append((device, item))
                } else {
                    discards.append((device, item))
                }
            }
        }
        for origin in byRow.keys.sorted(by: { ($0.source, $0.row) < ($1.source, $1.row) }) {
            take(origin, byRow[origin] ?? [], sources, copies)
        }
    }

    private static func isGood(
        _ item: RememberedItem, _ origin: EntryOrigin, _ sources: ScannedSources
    ) -> Bool {
        let source = sources.sources[Int(origin.source)]
        let row = source.table.rows[Int(origin.row)]
        let isLinked = source.table.extra(Int(origin.row)).linkedTo != nil
        // Nothing is known of a stream or a device: its bytes are asked for again.
        guard [.tree, .file, .content].contains(source.kind), !isLinked else { return false }
        return item.stamp == FileStamp(row) && item.offset + item.size <= row.size
    }

    private mutating func take(
        _ origin: EntryOrigin, _ found: [(device: Int, item: RememberedItem)],
        _ sources: ScannedSources, _ copies: Int
    ) {
        let size = sources.sources[Int(origin.source)].table.rows[Int(origin.row)].size
        var kept: [(device: Int, item: RememberedItem)] = []
        var covered: [Range<UInt64>] = []
        if copies == 1 {
            for (device, item) in found.sorted(by: { $0.item.offset < $1.item.offset }) {
                let range = item.offset..<item.offset + item.size
                let isNew =
                    range.isEmpty ? kept.isEmpty : !covered.contains { $0.overlaps(range) }
                if isNew {
                    covered.append(range)
                    kept.append((device, item))
                } else {
                    discards.append((device, item))
                }
            }
            for range in Ranges.subtracting(covered, from: 0..<size)
            where !range.isEmpty || kept.isEmpty {
                open.append((origin, range, []))
            }
        } else {
            // A copy counts where one device holds all of it.
            var holders: [Int] = []
            for (device, item) in found {
                if item.offset == 0, item.size == size, !holders.contains(device) {
                    holders.append(device)
                    kept.append((device, item))
                } else {
                    discards.append((device, item))
                }
            }
            for _ in 0..<max(0, copies - holders.count) {
                open.append((origin, 0..<size, holders))
            }
        }
        known.insert(origin)
        items += kept.map { device, item in
            StoredItem(
                source: Int(origin.source), row: Int(origin.row), offset: item.offset,
                size: item.size, digest: item.digest, device: device, place: item.place)
        }
    }
}
