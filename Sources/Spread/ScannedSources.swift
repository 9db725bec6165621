// All sources of a job, opened and scanned: the rows that the manifest keeps, and the list that the
// planner takes. Names in the set are made unique here.

import DiskIO

/// Where an entry of the planner's list comes from.
public struct EntryOrigin: Sendable, Hashable {
    public var source: UInt16
    public var row: UInt32
}

public struct ScannedSources: Sendable {
    public let opened: [SpreadSource]
    /// In the order of `opened`.
    public internal(set) var sources: [ManifestSource]
    /// What could not be read, by source.
    public private(set) var unreadable: [(source: Int, what: Unreadable)]

    /// Scans everything; throws only where the top of a source cannot be read.
    public init(_ opened: [SpreadSource], _ scanner: TreeScanner = TreeScanner()) throws {
        self.opened = opened
        sources = []
        unreadable = []
        var names: Set<[UInt8]> = []
        for (index, source) in opened.enumerated() {
            let (table, missing) = try source.scan(scanner)
            var name = source.baseName
            var number = 2
            while !names.insert(name).inserted {
                name = source.baseName + Array("-\(number)".utf8)
                number += 1
            }
            sources.append(
                ManifestSource(
                    name: name, origin: source.origin, kind: source.kind, table: table))
            unreadable += missing.map { (index, $0) }
        }
    }

    /// Reads link targets, and attributes of what is no file, which planning does not need.
    public mutating func readDetails(isCancelled: () -> Bool = { false }) {
        for index in opened.indices {
            let missing = opened[index].readDetails(
                into: &sources[index].table, isCancelled: isCancelled)
            unreadable += missing.map { (index, $0) }
        }
    }

    /// Reads the attributes of files whose content an interrupted run has read.
    mutating func readAttributes(of files: Set<EntryOrigin>) {
        for index in opened.indices {
            _ = opened[index].readDetails(
                into: &sources[index].table,
                where: { row, _ in
                    files.contains(EntryOrigin(source: UInt16(index), row: UInt32(row)))
                })
        }
    }

    /// The planner's list of the files that `includes` wants, and where its entries come from. A
    /// further hard link comes with the file that it links to.
    public func list(
        where includes: (_ source: Int, _ row: Int) -> Bool = { _, _ in true }
    ) -> (list: SourceList, origins: [EntryOrigin]) {
        var list = SourceList()
        var origins: [EntryOrigin] = []
        for (index, source) in sources.enumerated() {
            let number = list.addSource(source.origin)
            var paths = PathWalker()
            var leaders: [UInt32: Int] = [:]
            let table = source.table
            for row in 0..<table.count where table.rows[row].isFile {
                let linked = table.extras[UInt32(row)]?.linkedTo
                guard includes(index, linked.map { Int($0) } ?? row) else { continue }
                let entry = list.add(
                    source: number, path: paths.path(row, of: table), size: table.rows[row].size,
                    linkedTo: linked.flatMap { leaders[$0] })
                if linked == nil { leaders[UInt32(row)] = entry }
                origins.append(EntryOrigin(source: UInt16(index), row: UInt32(row)))
            }
        }
        return (list, origins)
    }
}

/// Paths of rows one after the other: the folder's path is kept from one to the next.
struct PathWalker {
    private var parent = -1
    private var prefix: [UInt8] = []

    mutating func path(_ row: Int, of table: TreeTable) -> [UInt8] {
        guard row != 0 else { return [] }
        let folder = Int(table.rows[row].parent)
        if folder != parent {
            parent = folder
            prefix = table.path(folder)
            if !prefix.isEmpty { prefix.append(0x2F) }
        }
        return prefix + table.name(row)
    }
}
