// What every segment store must do, as cases that any test target runs on its stores: folders and
// memory in HistoryTests, a log server in ShippingTests. A case throws what is wrong.

import BlockModel
import History
import LogFormat

/// A store to be tested, empty.
public struct StoreUnderTest {
    public var store: any SegmentStore
    /// Whether it takes bytes that are no segments; otherwise it is given segments only, in order.
    public var takesAnyBytes: Bool
    /// Keeps what the store lies in.
    public var keeper: AnyObject

    public init(_ store: any SegmentStore, takesAnyBytes: Bool, keeper: AnyObject) {
        self.store = store
        self.takesAnyBytes = takesAnyBytes
        self.keeper = keeper
    }
}

/// What is wrong with a store.
public struct StoreComplaint: Error, CustomStringConvertible {
    public var description: String
}

public struct SegmentStoreCase: Sendable, CustomStringConvertible {
    public var description: String
    public var run: @Sendable (StoreUnderTest) throws -> Void

    public static let all: [SegmentStoreCase] = [
        SegmentStoreCase(description: "put, list, read, delete", run: putListReadDelete),
        SegmentStoreCase(description: "any bytes of any length", run: anyBytes),
        SegmentStoreCase(description: "a listing is in the order of LSN", run: listingIsInOrder),
        SegmentStoreCase(description: "put never replaces", run: putNeverReplaces),
        SegmentStoreCase(description: "nothing shows before commit", run: nothingShowsBeforeCommit),
        SegmentStoreCase(description: "missing and short", run: missingAndShort),
        SegmentStoreCase(description: "what is expected is read", run: expectedIsRead),
    ]
}

private func putListReadDelete(_ place: StoreUnderTest) throws {
    let (store, maker) = (place.store, SegmentMaker(seed: 1))
    try expect(try store.list().isEmpty, "an empty store lists nothing")
    let base = maker.snapshot()
    try put(base.bytes, base.name, in: store)
    let below = StoredSegment(name: base.name, byteCount: UInt64(base.bytes.count))
    for size in [1, 4096, 100_000, (1 << 20) - 700, 1 << 20, 2_500_000] {
        let (name, bytes) = maker.log(records: 3, bytes: size)
        try put(bytes, name, in: store)
        let stored = StoredSegment(name: name, byteCount: UInt64(bytes.count))
        try expect(try store.list() == [below, stored], "\(bytes.count) bytes are listed")
        let whole = 0..<bytes.count
        try expect(try read(name, whole, in: store) == bytes, "\(bytes.count) bytes come back")
        for range in [0..<1, 0..<128, bytes.count - 3..<bytes.count, 100..<bytes.count / 2] {
            try expect(
                try read(name, range, in: store) == Array(bytes[range]),
                "\(range) of \(bytes.count) bytes comes back")
        }
        try store.delete(name)
        try expect(try store.list() == [below], "what is deleted is not listed")
        try expectFailure(.read, name, .missing) { _ = try read(name, 0..<1, in: store) }
    }
}

private func anyBytes(_ place: StoreUnderTest) throws {
    guard place.takesAnyBytes else { return }
    let (store, name) = (place.store, SegmentName(first: LSN(1), last: LSN(9), kind: .log))
    for size in [0, 1, 4096, 5000, (1 << 20) - 1, 1 << 20, 2_500_000] {
        let bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 8) }
        try put(bytes, name, in: store)
        let listed = try store.list()
        try expect(listed == [.init(name: name, byteCount: UInt64(size))], "\(size) are listed")
        try expect(try read(name, 0..<size, in: store) == bytes, "\(size) bytes come back")
        try store.delete(name)
        try expect(try store.list().isEmpty, "what is deleted is not listed")
    }
}

private func listingIsInOrder(_ place: StoreUnderTest) throws {
    let store = place.store
    if place.takesAnyBytes {
        let names = [
            SegmentName.snapshot(.zero), SegmentName(first: LSN(1), last: LSN(9), kind: .log),
            SegmentName(first: LSN(1), last: LSN(20), kind: .merged),
            SegmentName(first: LSN(10), last: LSN(UInt64.max), kind: .log),
            SegmentName.snapshot(LSN(100)),
        ]
        for name in names.shuffled() { try put([1], name, in: store) }
        try expect(try store.list().map(\.name) == names, "names in order")
        try expect(
            names.map(\.description) == names.map(\.description).sorted(), "texts in order")
        return
    }
    let maker = SegmentMaker(seed: 2)
    var made = [maker.snapshot()]
    for records in [9, 11, 1] { made.append(maker.log(records: records, bytes: 5000)) }
    made.append(maker.snapshot())
    made.append(maker.log(records: 200, bytes: 200_000))
    for (name, bytes) in made { try put(bytes, name, in: store) }
    try expect(try store.list().map(\.name) == made.map(\.name).sorted(), "names in order")
}

private func putNeverReplaces(_ place: StoreUnderTest) throws {
    let (store, maker) = (place.store, SegmentMaker(seed: 3))
    let (name, bytes) = maker.log(records: 5, bytes: 9000)
    let other = SegmentMaker(seed: 4).log(records: 5, bytes: 9000)
    try expect(other.name == name && other.bytes != bytes, "two segments of one name")
    try put(bytes, name, in: store)
    for again in [other.bytes, bytes] {
        try expectFailure(.put, name, .exists) { try put(again, name, in: store) }
    }
    try expect(try read(name, 0..<bytes.count, in: store) == bytes, "the first one stays")
}

private func nothingShowsBeforeCommit(_ place: StoreUnderTest) throws {
    let (store, maker) = (place.store, SegmentMaker(seed: 5))
    let (name, bytes) = maker.log(records: 12, bytes: 9 << 20)
    let (first, second) = (try store.upload(), try store.upload())
    for upload in [first, second] { try bytes.withUnsafeBytes { try upload.append($0) } }
    try expect(try store.list().isEmpty, "what is under way is not listed")
    first.abort()
    first.abort()
    try second.commit(as: name)
    second.abort()
    let stored = StoredSegment(name: name, byteCount: UInt64(bytes.count))
    try expect(try store.list() == [stored], "what is committed is listed")
    try expect(try read(name, 0..<bytes.count, in: store) == bytes, "and comes back")
}

private func missingAndShort(_ place: StoreUnderTest) throws {
    let (store, maker) = (place.store, SegmentMaker(seed: 6))
    let (name, bytes) = maker.log(records: 1, bytes: 512)
    try expectFailure(.read, name, .missing) { _ = try read(name, 0..<1, in: store) }
    try expectFailure(.delete, name, .missing) { try store.delete(name) }
    try put(bytes, name, in: store)
    let end = bytes.count
    for range in [0..<end + 1, end - 1..<end + 1, end..<end + 1, end + 97..<end + 98] {
        try expectFailure(.read, name, .short) { _ = try read(name, range, in: store) }
    }
}

/// Hints change nothing of what is read, also where they are wrong or nobody reads.
private func expectedIsRead(_ place: StoreUnderTest) throws {
    let (store, maker) = (place.store, SegmentMaker(seed: 7))
    let (name, bytes) = maker.log(records: 6, bytes: 3 << 20)
    try put(bytes, name, in: store)
    _ = try store.list()
    let end = UInt64(bytes.count)
    let missing = SegmentName(first: LSN(90), last: LSN(99), kind: .log)
    func range(_ offset: UInt64, _ end: UInt64) -> SegmentRange {
        SegmentRange(name: name, offset: offset, byteCount: end - offset)
    }
    store.expect([
        range(0, 1000), range(500_000, 700_000), range(600_000, 1_900_000), range(end - 256, end),
        range(end - 10, end + 500), range(end + 5000, end + 6000),
        SegmentRange(name: missing, offset: 0, byteCount: 100),
    ])
    for start in stride(from: 0, to: bytes.count, by: 130_001) {
        let part = start..<min(start + 130_001, bytes.count)
        try expect(try read(name, part, in: store) == Array(bytes[part]), "\(part) comes back")
    }
    let tail = bytes.count - 256..<bytes.count
    for _ in 0..<2 {
        try expect(try read(name, tail, in: store) == Array(bytes[tail]), "the tail comes back")
    }
    try expectFailure(.read, missing, .missing) { _ = try read(missing, 0..<9, in: store) }
    try expectFailure(.read, name, .short) {
        _ = try read(name, bytes.count - 10..<bytes.count + 500, in: store)
    }
    store.expect([range(0, end)])
    try expect(try read(name, 0..<bytes.count, in: store) == bytes, "all comes back")
}

// MARK: - What cases are made of

private func put(_ bytes: [UInt8], _ name: SegmentName, in store: any SegmentStore) throws {
    let upload = try store.upload()
    for start in stride(from: 0, to: bytes.count, by: 700_001) {
        let piece = bytes[start..<min(bytes.count, start + 700_001)]
        try piece.withUnsafeBytes { try upload.append($0) }
    }
    try upload.commit(as: name)
}

private func read(
    _ name: SegmentName, _ range: Range<Int>, in store: any SegmentStore
) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0xEE, count: range.count)
    try bytes.withUnsafeMutableBytes {
        try store.read(name, into: $0, at: UInt64(range.lowerBound))
    }
    return bytes
}

private func expect(_ isSo: @autoclosure () throws -> Bool, _ what: String) throws {
    if try !isSo() { throw StoreComplaint(description: "not so: \(what)") }
}

private func expectFailure(
    _ operation: StoreError.Operation, _ name: SegmentName, _ cause: StoreError.Cause,
    _ body: () throws -> Void
) throws {
    let wanted = StoreError(operation, "\(name)", cause)
    do {
        try body()
    } catch let error as StoreError where error == wanted {
        return
    } catch {
        throw StoreComplaint(description: "failed with \(error), not with \(wanted)")
    }
    throw StoreComplaint(description: "went well instead of failing with \(wanted)")
}
