// The shared cases of Tests/SegmentStoreSuite on the stores of this room, and what folders do
// beyond them.

import BlockModel
import DiskIO
import History
import HistoryModel
import LogFormat
import SegmentStoreSuite
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

/// Where the shared cases run here.
struct StorePlace: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var make: @Sendable () throws -> StoreUnderTest

    static let all: [StorePlace] = [
        StorePlace(testDescription: "memory") {
            let store = MemoryStore()
            return StoreUnderTest(store, takesAnyBytes: true, keeper: store)
        },
        StorePlace(testDescription: "folder on disk") {
            let folder = try TemporaryFolder()
            return StoreUnderTest(
                DirectoryStore(storage: DiskStorage(), directory: folder.path),
                takesAnyBytes: true, keeper: folder)
        },
        StorePlace(testDescription: "simulated folder") {
            let storage = SimulatedStorage(seed: 7)
            try storage.createDirectory("/h")
            return StoreUnderTest(
                DirectoryStore(storage: storage, directory: "/h"), takesAnyBytes: true,
                keeper: storage)
        },
        StorePlace(testDescription: "sealed in memory") {
            let inner = MemoryStore()
            return StoreUnderTest(
                SealedStore(inner, key: .random()), takesAnyBytes: true, keeper: inner)
        },
        StorePlace(testDescription: "sealed in a folder on disk") {
            let folder = try TemporaryFolder()
            let inner = DirectoryStore(storage: DiskStorage(), directory: folder.path)
            return StoreUnderTest(
                SealedStore(inner, key: .random()), takesAnyBytes: true, keeper: folder)
        },
    ]
}

@Suite struct SegmentStoreTests {
    @Test(arguments: StorePlace.all, SegmentStoreCase.all)
    func fulfils(_ place: StorePlace, _ promise: SegmentStoreCase) throws {
        let store = try place.make()
        defer { withExtendedLifetime(store.keeper) {} }
        try promise.run(store)
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
