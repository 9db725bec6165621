// Reads every byte of a set back and says what is not as the manifest has it.

import DiskIO

public struct SetFault: Sendable, Hashable {
    public var device: String
    /// Source's name and path, as text.
    public var path: String
    public var offset: UInt64
    public var size: UInt64
    public var reason: String
}

public struct SetVerification: Sendable {
    public var items = 0
    public var bytes: UInt64 = 0
    public var faults: [SetFault] = []
    /// Files that cannot be had from what is good on the devices at hand.
    public var lost: [String] = []
}

public struct SetVerifier {
    public var isCancelled: @Sendable () -> Bool = { false }
    /// Told how many bytes are done.
    public var progress: (UInt64) -> Void = { _ in }

    public init() {}

    /// Only of a set with a manifest.
    public func verify(_ set: FoundSet) throws -> SetVerification {
        var result = SetVerification()
        guard let manifest = set.manifest else { return result }
        var good: [Bool] = manifest.items.map { _ in false }
        let order = manifest.items.indices.sorted { a, b in
            let (a, b) = (manifest.items[a], manifest.items[b])
            return (a.device, a.place) < (b.device, b.place)
        }
        for i in order {
            if isCancelled() { throw CancellationError() }
            let item = manifest.items[i]
            guard let place = set.place(of: item.device) else { continue }
            let fault = try set.check(item, at: place) { _ in }
            result.items += 1
            result.bytes += item.size
            progress(result.bytes)
            good[i] = fault == nil
            if let fault {
                result.faults.append(
                    SetFault(
                        device: place.device.name, path: manifest.text(item.source, item.row),
                        offset: item.offset, size: item.size, reason: fault))
            }
        }
        result.lost = Self.lost(manifest) { good[$0] }
        return result
    }

    /// Files that the items for which `isGood` holds do not cover.
    static func lost(_ manifest: Manifest, _ isGood: (Int) -> Bool) -> [String] {
        var covered: [EntryOrigin: [Range<UInt64>]] = [:]
        for (i, item) in manifest.items.enumerated() where isGood(i) {
            let origin = EntryOrigin(source: UInt16(item.source), row: UInt32(item.row))
            covered[origin, default: []].append(item.range)
        }
        var lost: [String] = []
        for (index, source) in manifest.sources.enumerated() {
            for row in 0..<source.table.count
            where source.table.rows[row].isFile && source.table.extra(row).linkedTo == nil {
                let ranges = covered[EntryOrigin(source: UInt16(index), row: UInt32(row))]
                let size = source.table.rows[row].size
                let left = Ranges.subtracting(ranges ?? [], from: 0..<size)
                if size == 0 ? ranges == nil : !left.isEmpty {
                    lost.append(manifest.text(index, row))
                }
            }
        }
        return lost
    }
}

extension Manifest {
    /// Source's name and path, as text.
    public func text(_ source: Int, _ row: Int) -> String {
        let path = sources[source].table.path(row)
        return PathText.text(sources[source].name + (path.isEmpty ? [] : [0x2F] + path))
    }
}
