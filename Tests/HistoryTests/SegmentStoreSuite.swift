// What every segment store must do. A new implementation adds a line to `places` and passes.

import BlockModel
import DiskIO
import History
import HistoryModel
import LogFormat
import Testing

#if canImport(Glibc)
    import Glibc
#endif

/// A folder of the system, removed with everything in it when it goes.
final class TemporaryFolder {
    let path: String

    init() throws {
        var template = Array("/tmp/logdisk-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw IOError(.create, "/tmp", errno) }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        let storage = DiskStorage()
        for name in (try? storage.list(path)) ?? [] { try? storage.remove("\(path)/\(name)") }
        try? storage.remove(path)
    }
}

/// A store to be tested, empty, and what keeps it alive.
struct StorePlace: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var make: @Sendable () throws -> (store: any SegmentStore, keeper: AnyObject)

    static let all: [StorePlace] = [
        StorePlace(testDescription: "memory") { (MemoryStore(), MemoryStore()) },
        StorePlace(testDescription: "folder on disk") {
            let folder = try TemporaryFolder()
            return (DirectoryStore(storage: DiskStorage(), directory: folder.path), folder)
        },
        StorePlace(testDescription: "simulated folder") {
            let storage = SimulatedStorage(seed: 7)
            try storage.createDirectory("/h")
            return (DirectoryStore(storage: storage, directory: "/h"), storage)
        },
        StorePlace(testDescription: "sealed in memory") {
            let inner = MemoryStore()
            return (SealedStore(inner, key: .random()), inner)
        },
        StorePlace(testDescription: "sealed in a folder on disk") {
            let folder = try TemporaryFolder()
            let inner = DirectoryStore(storage: DiskStorage(), directory: folder.path)
            return (SealedStore(inner, key: .random()), folder)
        },
    ]
}

@Suite struct SegmentStoreSuite {
    private static let log = SegmentName(first: LSN(1), last: LSN(9), kind: .log)

    private static func put(_ bytes: [UInt8], _ name: SegmentName, in store: any SegmentStore)
        throws
    {
        let upload = try store.upload()
        for start in stride(from: 0, to: bytes.count, by: 700_001) {
            let piece = bytes[start..<min(bytes.count, start + 700_001)]
            try piece.withUnsafeBytes { try upload.append($0) }
        }
        try upload.commit(as: name)
    }

    private static func read(
        _ name: SegmentName, _ range: Range<Int>, in store: any SegmentStore
    ) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0xEE, count: range.count)
        try bytes.withUnsafeMutableBytes {
            try store.read(name, into: $0, at: UInt64(range.lowerBound))
        }
        return bytes
    }

    @Test(arguments: StorePlace.all) func putListReadDelete(_ place: StorePlace) throws {
        let (store, keeper) = try place.make()
        defer { withExtendedLifetime(keeper) {} }
        #expect(try store.list().isEmpty)
        for size in [0, 1, 4096, 5000, (1 << 20) - 1, 1 << 20, 2_500_000] {
            let bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 8) }
            try Self.put(bytes, Self.log, in: store)
            #expect(try store.list() == [.init(name: Self.log, byteCount: UInt64(size))])
            #expect(try Self.read(Self.log, 0..<size, in: store) == bytes)
            if size > 3 {
                #expect(try Self.read(Self.log, size - 3..<size, in: store) == bytes.suffix(3))
            }
            try store.delete(Self.log)
            #expect(try store.list().isEmpty)
        }
    }

    @Test(arguments: StorePlace.all) func listingIsInOrderOfLSN(_ place: StorePlace) throws {
        let (store, keeper) = try place.make()
        defer { withExtendedLifetime(keeper) {} }
        let names = [
            SegmentName.snapshot(.zero), SegmentName(first: LSN(1), last: LSN(9), kind: .log),
            SegmentName(first: LSN(1), last: LSN(20), kind: .merged),
            SegmentName(first: LSN(10), last: LSN(UInt64.max), kind: .log),
            SegmentName.snapshot(LSN(100)),
        ]
        for name in names.shuffled() { try Self.put([1], name, in: store) }
        #expect(try store.list().map(\.name) == names)
        #expect(names.map(\.description) == names.map(\.description).sorted())
    }

    @Test(arguments: StorePlace.all) func putNeverReplaces(_ place: StorePlace) throws {
        let (store, keeper) = try place.make()
        defer { withExtendedLifetime(keeper) {} }
        try Self.put([1, 2, 3], Self.log, in: store)
        #expect(throws: StoreError(.put, "\(Self.log)", .exists)) {
            try Self.put([4], Self.log, in: store)
        }
        #expect(try Self.read(Self.log, 0..<3, in: store) == [1, 2, 3])
    }

    @Test(arguments: StorePlace.all) func nothingShowsBeforeCommit(_ place: StorePlace) throws {
        let (store, keeper) = try place.make()
        defer { withExtendedLifetime(keeper) {} }
        let (first, second) = (try store.upload(), try store.upload())
        for upload in [first, second] {
            try [UInt8](repeating: 5, count: 3 << 20).withUnsafeBytes { try upload.append($0) }
        }
        #expect(try store.list().isEmpty)
        first.abort()
        first.abort()
        try second.commit(as: Self.log)
        second.abort()
        #expect(try store.list() == [.init(name: Self.log, byteCount: 3 << 20)])
    }

    @Test(arguments: StorePlace.all) func missingAndShort(_ place: StorePlace) throws {
        let (store, keeper) = try place.make()
        defer { withExtendedLifetime(keeper) {} }
        #expect(throws: StoreError(.read, "\(Self.log)", .missing)) {
            try Self.read(Self.log, 0..<1, in: store)
        }
        #expect(throws: StoreError(.delete, "\(Self.log)", .missing)) {
            try store.delete(Self.log)
        }
        try Self.put([1, 2, 3], Self.log, in: store)
        for range in [0..<4, 2..<4, 3..<4, 100..<101] {
            #expect(throws: StoreError(.read, "\(Self.log)", .short)) {
                try Self.read(Self.log, range, in: store)
            }
        }
    }
}

@Suite struct DirectoryStoreTests {
    @Test func foreignNamesDoNotShow() throws {
        let storage = SimulatedStorage(seed: 1)
        try storage.createDirectory("/h")
        let store = DirectoryStore(storage: storage, directory: "/h")
        let good = "\(SegmentName.snapshot(LSN(5)))"
        for name in [good, good + ".damaged", "1.unfinished", "a.segment", "x" + good] {
            _ = try storage.open("/h/\(name)", OpenOptions(.readWrite, creation: .exclusively))
        }
        #expect(try store.list().map(\.name) == [.snapshot(LSN(5))])
        try store.removeUnfinished()
        #expect(try storage.list("/h").contains("1.unfinished") == false)
        let aside = try store.setAside(.snapshot(LSN(5)))
        #expect(aside == "/h/\(good).damaged-2")
        #expect(try store.list().isEmpty)
    }

    @Test func aCrashAtAnyOperationLeavesAllOrNothing() throws {
        let name = SegmentName(first: LSN(1), last: LSN(2), kind: .log)
        let bytes = [UInt8](repeating: 9, count: 1_300_000)
        for operation in 1...14 as ClosedRange<UInt64> {
            let storage = SimulatedStorage(seed: operation)
            try storage.createDirectory("/h")
            try storage.syncDirectory("/")
            storage.crash(atOperation: storage.operationCount + operation)
            let store = DirectoryStore(storage: storage, directory: "/h")
            var isCommitted = false
            do {
                let upload = try store.upload()
                try bytes.withUnsafeBytes { try upload.append($0) }
                try upload.commit(as: name)
                isCommitted = true
            } catch {}
            storage.crash()
            let after = DirectoryStore(storage: storage, directory: "/h")
            let listed = try after.list()
            if isCommitted { #expect(listed.count == 1) }
            for segment in listed {
                #expect(segment == .init(name: name, byteCount: UInt64(bytes.count)))
                #expect(try storage.contents(of: "/h/\(name)") == bytes)
            }
        }
    }

    @Test func failuresLeaveNothing() throws {
        let name = SegmentName(first: LSN(1), last: LSN(2), kind: .log)
        for operation in [IOError.Operation.write, .truncate, .sync, .rename, .syncDirectory] {
            let storage = SimulatedStorage(seed: 3)
            try storage.createDirectory("/h")
            let store = DirectoryStore(storage: storage, directory: "/h")
            storage.inject(PlannedFault(operation, .error(28)))
            #expect(throws: StoreError.self) {
                let upload = try store.upload()
                try [UInt8](repeating: 1, count: 100).withUnsafeBytes { try upload.append($0) }
                try upload.commit(as: name)
            }
            #expect(try storage.list("/h") == [], "after a failed \(operation)")
        }
    }
}

@Suite struct SegmentNameTests {
    @Test func textAndBack() {
        let name = SegmentName(first: LSN(1), last: LSN(1234), kind: .log)
        #expect("\(name)" == "00000000000000000001-00000000000000001234.log.segment")
        for kind in SegmentKind.allCases {
            let name = SegmentName(first: LSN(7), last: LSN(7), kind: kind)
            #expect(SegmentName("\(name)") == name)
        }
    }

    @Test(arguments: [
        "", ".segment", "1-2.log.segment",
        "00000000000000000002-00000000000000000001.log.segment",
        "00000000000000000001-00000000000000000002.snapshot.segment",
        "00000000000000000001-00000000000000000002.logs.segment",
        "00000000000000000001-00000000000000000002.log.segment.tmp",
        "00000000000000000001-99999999999999999999.log.segment",
        "+0000000000000000001-00000000000000000002.log.segment",
        "00000000000000000001-00000000000000000002-00000000000000000003.log.segment",
    ]) func refused(_ text: String) { #expect(SegmentName(text) == nil) }
}
