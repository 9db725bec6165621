// What is to be spread: every file of all sources, as columns of numbers and one buffer of path
// bytes. A million files cost about 24 bytes each besides their names; no object per file.
//
// The order of entries decides between files of equal size, so whoever fills the list adds sources
// in the order of the command line and the names of a folder in byte order: then the same sources
// give the same plan. A value; no input or output.

/// The files of all sources of a job.
public struct SourceList: Sendable {
    /// The sources, as on the command line.
    public private(set) var names: [String] = []
    private var sizes: [UInt64] = []
    private var pathEnds: [UInt64] = []
    private var pathBytes: [UInt8] = []
    private var sourceNumbers: [UInt16] = []
    /// Index of the first entry with the same content; `noLink` for all others.
    private var leaders: [UInt32] = []
    private static let noLink = UInt32.max

    /// The most entries and sources that the columns can number.
    public static let countMax = Int(UInt32.max - 1)
    public static let sourcesMax = Int(UInt16.max)

    public init() {}

    public var count: Int { sizes.count }

    /// Room for so many entries with so many bytes of paths.
    public mutating func reserve(_ count: Int, pathByteCount: Int) {
        sizes.reserveCapacity(count)
        pathEnds.reserveCapacity(count)
        sourceNumbers.reserveCapacity(count)
        leaders.reserveCapacity(count)
        pathBytes.reserveCapacity(pathByteCount)
    }

    /// Adds a source; its number, from 0.
    public mutating func addSource(_ name: String) -> Int {
        precondition(names.count < Self.sourcesMax, "more sources than can be numbered")
        names.append(name)
        return names.count - 1
    }

    /// Adds a file; its index. `path` is relative to the source, of any bytes but NUL. A further
    /// hard link names the entry that was added first for the same content: it has no bytes of its
    /// own and goes where that one goes.
    @discardableResult
    public mutating func add(
        source: Int, path: some Sequence<UInt8>, size: UInt64, linkedTo leader: Int? = nil
    ) -> Int {
        precondition(count < Self.countMax, "more files than can be numbered")
        precondition(leader.map { $0 < count && self.leader(of: $0) == nil } ?? true)
        pathBytes.append(contentsOf: path)
        pathEnds.append(UInt64(pathBytes.count))
        sizes.append(size)
        sourceNumbers.append(UInt16(source))
        leaders.append(leader.map { UInt32($0) } ?? Self.noLink)
        return count - 1
    }

    /// The same files with other sizes.
    func withSizes(_ sizes: [UInt64]) -> SourceList {
        precondition(sizes.count == count)
        var result = self
        result.sizes = sizes
        return result
    }

    /// Bytes to be written for the entry: none for a further hard link.
    public func size(_ index: Int) -> UInt64 {
        leaders[index] == Self.noLink ? sizes[index] : 0
    }

    /// The size of the file behind the entry, hard link or not.
    public func fileSize(_ index: Int) -> UInt64 { sizes[index] }

    public func source(_ index: Int) -> Int { Int(sourceNumbers[index]) }

    /// The entry whose content this one shares; nil for all but further hard links.
    public func leader(of index: Int) -> Int? {
        leaders[index] == Self.noLink ? nil : Int(leaders[index])
    }

    /// The bytes of the entry's path.
    public func path(_ index: Int) -> ArraySlice<UInt8> {
        let start = index == 0 ? 0 : Int(pathEnds[index - 1])
        return pathBytes[start..<Int(pathEnds[index])]
    }

    /// The entry's path as JSON and people see it.
    public func pathText(_ index: Int) -> String { PathText.text(path(index)) }

    /// The sum of all sizes; nil when it is more than 64 bits hold.
    public var total: UInt64? {
        var sum: UInt64 = 0
        for index in 0..<count {
            let (next, overflow) = sum.addingReportingOverflow(size(index))
            if overflow { return nil }
            sum = next
        }
        return sum
    }
}
