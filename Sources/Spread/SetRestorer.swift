// Brings a set back as files: everything, or what is named. Built beside the output under another
// name and renamed at the end. Every item's digest is checked; where one is damaged or its device
// is away, another copy is taken. What cannot be had is left out and listed.

import DiskIO

#if canImport(Glibc)
    import Glibc
#endif

public struct RestoreReport: Sendable {
    public struct Missing: Sendable, Hashable {
        /// Source's name and path, as text.
        public var path: String
        public var reason: String
        public var isDamaged = false
    }
    public var files = 0
    public var bytes: UInt64 = 0
    public var missing: [Missing] = []
    /// Owners, modes, times or attributes that could not be set, with the first reasons.
    public var unset: [String] = []
    public var unsetCount = 0
}

public final class SetRestorer {
    let set: FoundSet
    let manifest: Manifest
    let output: Folder
    private let isCancelled: () -> Bool
    private let progress: (UInt64) -> Void
    var wanted: [[Bool]] = []
    private var bad: Set<Int> = []
    private var done: Set<Int> = []
    private var faults: [EntryOrigin: String] = [:]
    var restored: Set<EntryOrigin> = []
    var report = RestoreReport()
    var parentFolder: (place: [UInt8], folder: Folder)?

    /// `output` is an empty folder. nil for a set without manifest.
    public init?(
        _ set: FoundSet, into output: Folder, isCancelled: @escaping () -> Bool = { false },
        progress: @escaping (UInt64) -> Void = { _ in }
    ) {
        guard let manifest = set.manifest else { return nil }
        (self.set, self.manifest, self.output) = (set, manifest, output)
        (self.isCancelled, self.progress) = (isCancelled, progress)
        wanted = manifest.sources.map { [Bool](repeating: true, count: $0.table.count) }
    }

    /// Chooses what to restore: paths `SOURCE`, `SOURCE/PATH` with all below, or `id:SHA256`. The
    /// paths that name nothing.
    public func select(_ paths: [[UInt8]]) -> [[UInt8]] {
        wanted = manifest.sources.map { [Bool](repeating: paths.isEmpty, count: $0.table.count) }
        return paths.filter { !select($0) }
    }

    private func select(_ path: [UInt8]) -> Bool {
        if path.starts(with: "id:".utf8) {
            return selectContent(String(decoding: path.dropFirst(3), as: UTF8.self))
        }
        var path = path[...]
        while path.last == 0x2F { path = path.dropLast() }
        var isFound = false
        for (index, source) in manifest.sources.enumerated() {
            guard path.starts(with: source.name) else { continue }
            let rest = path.dropFirst(source.name.count)
            guard rest.isEmpty || rest.first == 0x2F else { continue }
            let inner = Array(rest.dropFirst())
            guard let top = row(inner, in: source.table) else { continue }
            isFound = true
            wanted[index][top] = true
            for row in max(top, 1)..<max(source.table.count, max(top, 1))
            where wanted[index][Int(source.table.rows[row].parent)]
                && isBelow(row, top, source.table)
            {
                wanted[index][row] = true
            }
        }
        return isFound
    }

    private func isBelow(_ row: Int, _ top: Int, _ table: TreeTable) -> Bool {
        var at = row
        while at != top {
            if at == 0 { return false }
            at = Int(table.rows[at].parent)
        }
        return true
    }

    private func row(_ path: [UInt8], in table: TreeTable) -> Int? {
        if path.isEmpty { return 0 }
        var at = 0
        for name in path.split(separator: 0x2F) {
            let next = table.rows.indices.first {
                $0 != 0 && Int(table.rows[$0].parent) == at && table.name($0) == name
            }
            guard let next else { return nil }
            at = next
        }
        return at
    }

    /// Any file whose whole content has this digest.
    private func selectContent(_ text: String) -> Bool {
        guard let bytes = [UInt8](hexText: text.lowercased()), let digest = ContentDigest(bytes)
        else { return false }
        for (index, source) in manifest.sources.enumerated()
        where source.kind == .content && source.name == Array(text.lowercased().utf8) {
            wanted[index][0] = true
            return true
        }
        let found = manifest.items.first {
            let size = manifest.sources[$0.source].table.rows[$0.row].size
            return $0.digest == digest && $0.offset == 0 && $0.size == size
        }
        if let found { wanted[found.source][found.row] = true }
        return found != nil
    }

    // MARK: - restoring

    public func restore() throws -> RestoreReport {
        selectParentsAndLeaders()
        try makeFolders()
        var open = wantedFiles()
        let total = open
        while !open.isEmpty {
            let (reads, uncovered) = cover(open)
            for (origin, reason, isDamaged) in uncovered {
                report.missing.append(
                    .init(
                        path: manifest.text(Int(origin.source), Int(origin.row)), reason: reason,
                        isDamaged: isDamaged))
            }
            let lost = Set(uncovered.map(\.0))
            var again: Set<EntryOrigin> = []
            for i in reads {
                if isCancelled() { throw CancellationError() }
                let item = manifest.items[i]
                let origin = EntryOrigin(source: UInt16(item.source), row: UInt32(item.row))
                if try !read(i) { again.insert(origin) }
            }
            for origin in open where !lost.contains(origin) && !again.contains(origin) {
                restored.insert(origin)
            }
            open = open.filter { again.contains($0) }
        }
        for origin in total where !restored.contains(origin) {
            let source = manifest.sources[Int(origin.source)]
            try? output.remove(place(origin, source))
        }
        try finishTree()
        report.files = restored.count
        return report
    }

    /// Folders above what is wanted, and the file that a hard link shares its content with.
    private func selectParentsAndLeaders() {
        for (index, source) in manifest.sources.enumerated() {
            for row in source.table.rows.indices.reversed() where wanted[index][row] {
                wanted[index][Int(source.table.rows[row].parent)] = true
            }
        }
    }

    private func wantedFiles() -> [EntryOrigin] {
        var files: [EntryOrigin] = []
        for (index, source) in manifest.sources.enumerated() {
            var seen: Set<Int> = []
            for row in source.table.rows.indices where wanted[index][row] {
                guard source.table.rows[row].isFile else { continue }
                let leader = source.table.extra(row).linkedTo.map { Int($0) } ?? row
                if seen.insert(leader).inserted {
                    files.append(EntryOrigin(source: UInt16(index), row: UInt32(leader)))
                }
            }
        }
        return files
    }

    private func place(_ origin: EntryOrigin, _ source: ManifestSource) -> [UInt8] {
        let path = source.table.path(nameRow(origin, source))
        return source.name + (path.isEmpty ? [] : [0x2F] + path)
    }

    /// The row under whose name the content is made: the file itself, or its first wanted link.
    private func nameRow(_ origin: EntryOrigin, _ source: ManifestSource) -> Int {
        let row = Int(origin.row)
        if wanted[Int(origin.source)][row] { return row }
        return source.table.rows.indices.first {
            wanted[Int(origin.source)][$0] && source.table.extra($0).linkedTo == origin.row
        } ?? row
    }

    private func makeFolders() throws {
        for (index, source) in manifest.sources.enumerated() where wanted[index][0] {
            for row in source.table.rows.indices
            where wanted[index][row] && source.table.rows[row].isFolder {
                let path = source.table.path(row)
                let place = source.name + (path.isEmpty ? [] : [0x2F] + path)
                try FolderDevice.createFolders(place, in: output)
            }
        }
    }

    /// The items to read for the files, by device and place; and the files for which there are
    /// none.
    private func cover(
        _ files: [EntryOrigin]
    ) -> (reads: [Int], uncovered: [(EntryOrigin, String, Bool)]) {
        let isOpen = Set(files)
        var byFile: [EntryOrigin: [Int]] = [:]
        var away: [EntryOrigin: Set<Int>] = [:]
        for (i, item) in manifest.items.enumerated() {
            let origin = EntryOrigin(source: UInt16(item.source), row: UInt32(item.row))
            guard isOpen.contains(origin), !bad.contains(i) else { continue }
            if set.place(of: item.device) == nil {
                away[origin, default: []].insert(item.device)
            } else {
                byFile[origin, default: []].append(i)
            }
        }
        var reads: [Int] = []
        var uncovered: [(EntryOrigin, String, Bool)] = []
        for file in files {
            let size = manifest.sources[Int(file.source)].table.rows[Int(file.row)].size
            if let chosen = Self.cover(0..<size, byFile[file] ?? [], manifest.items) {
                reads += chosen
            } else if let devices = away[file] {
                let names = devices.sorted().map { manifest.devices[$0].name }
                uncovered.append((file, "on \(names.joined(separator: ", "))", false))
            } else if let fault = faults[file] {
                uncovered.append((file, fault, true))
            } else {
                uncovered.append((file, "it was not read when the set was made", false))
            }
        }
        let items = manifest.items
        reads = reads.filter { !done.contains($0) }.sorted {
            (items[$0].device, items[$0].place, items[$0].source, items[$0].row)
                < (items[$1].device, items[$1].place, items[$1].source, items[$1].row)
        }
        return (reads, uncovered)
    }

    /// The fewest items that cover the range, from left to right; nil where they cannot.
    static func cover(
        _ range: Range<UInt64>, _ candidates: [Int], _ items: [StoredItem]
    ) -> [Int]? {
        if range.isEmpty { return candidates.first.map { [$0] } }
        let sorted = candidates.sorted { items[$0].offset < items[$1].offset }
        var chosen: [Int] = []
        var position = range.lowerBound
        var next = 0
        while position < range.upperBound {
            var best: Int?
            while next < sorted.count, items[sorted[next]].offset <= position {
                let end = items[sorted[next]].range.upperBound
                if end > position, end > best.map({ items[$0].range.upperBound }) ?? 0 {
                    best = sorted[next]
                }
                next += 1
            }
            guard let best else { return nil }
            chosen.append(best)
            position = items[best].range.upperBound
            // One that reaches further may lie among those already looked at.
            next = 0
        }
        return chosen
    }

    /// Reads an item into its file; false where it is damaged.
    private func read(_ i: Int) throws -> Bool {
        let item = manifest.items[i]
        let source = manifest.sources[item.source]
        let origin = EntryOrigin(source: UInt16(item.source), row: UInt32(item.row))
        guard let from = set.place(of: item.device) else { return false }
        let file = try output.file(
            place(origin, source), OpenOptions(.readWrite, creation: .ifMissing))
        defer { file.close() }
        let size = source.table.rows[item.row].size
        if try file.size() != size { try file.truncate(to: size) }
        var position = item.offset
        let ranges = source.table.extra(item.row).dataRanges
        let fault = try set.check(item, at: from) { piece in
            switch piece {
            case .hole(let count): position += count
            case .bytes(let bytes):
                try Self.write(bytes, at: position, to: file, ranges)
                position += UInt64(bytes.count)
            }
        }
        if let fault {
            bad.insert(i)
            faults[origin] = "\(fault), on \(from.device.name)"
            return false
        }
        done.insert(i)
        report.bytes += item.size
        progress(report.bytes)
        return true
    }

    /// What lies outside of `ranges` was a hole and stays one.
    private static func write(
        _ bytes: UnsafeRawBufferPointer, at offset: UInt64, to file: StorageFile,
        _ ranges: [Range<UInt64>]?
    ) throws(IOError) {
        guard let ranges else { return try file.write(bytes, at: offset) }
        let whole = offset..<offset + UInt64(bytes.count)
        var first = ranges.startIndex
        var end = ranges.endIndex
        while first < end {
            let middle = (first + end) / 2
            if ranges[middle].upperBound <= offset { first = middle + 1 } else { end = middle }
        }
        for range in ranges[first...] {
            let part = range.clamped(to: whole)
            if part.isEmpty { return }
            let piece = Int(part.lowerBound - offset)..<Int(part.upperBound - offset)
            try file.write(UnsafeRawBufferPointer(rebasing: bytes[piece]), at: part.lowerBound)
        }
    }
}
