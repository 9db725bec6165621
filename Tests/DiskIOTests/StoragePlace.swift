// The storages that the shared suite runs against, and small helpers for bytes.

import DiskIO
import Testing

#if canImport(Glibc)
    import Glibc
#endif

enum StorageKind: String, CaseIterable, Sendable {
    case disk, simulated
}

/// A storage with an empty folder in it, removed with everything inside when the place goes.
final class StoragePlace {
    let storage: Storage
    let folder: String
    private let isOnDisk: Bool

    init(_ kind: StorageKind) throws {
        isOnDisk = kind == .disk
        switch kind {
        case .disk:
            // /var/tmp is on a disk where /tmp may be in memory: O_DIRECT is then real.
            var template = Array("/var/tmp/logdisk-test-XXXXXX".utf8CString)
            guard let made = mkdtemp(&template) else { throw IOError(.create, "temporary", errno) }
            folder = String(cString: made)
            storage = DiskStorage()
        case .simulated:
            let simulated = SimulatedStorage(seed: 1)
            try simulated.createDirectory("/place")
            try simulated.syncDirectory("/")
            folder = "/place"
            storage = simulated
        }
    }

    deinit {
        if isOnDisk { Self.removeTree(storage, folder) }
    }

    private static func removeTree(_ storage: Storage, _ path: String) {
        if storage.isDirectory(path) {
            for name in (try? storage.list(path)) ?? [] { removeTree(storage, "\(path)/\(name)") }
        }
        try? storage.remove(path)
    }

    func path(_ name: String) -> String { "\(folder)/\(name)" }

    func create(_ name: String, isDirect: Bool = false) throws -> StorageFile {
        try storage.open(
            path(name), OpenOptions(.readWrite, creation: .exclusively, isDirect: isDirect))
    }
}

extension StorageFile {
    func put(_ bytes: [UInt8], at offset: UInt64, _ durability: Durability = .deferred) throws {
        try bytes.withUnsafeBytes { try write($0, at: offset, durability) }
    }

    /// What one read of `count` bytes gives; shorter at the end of the file.
    func get(_ count: Int, at offset: UInt64) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0xEE, count: count)
        let filled = try bytes.withUnsafeMutableBytes { try read(into: $0, at: offset) }
        return Array(bytes.prefix(filled))
    }
}

func pattern(_ count: Int, _ value: UInt8) -> [UInt8] { [UInt8](repeating: value, count: count) }

/// Expects the body to fail with this errno.
func expectCode(
    _ code: Int32, sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> Void
) {
    do {
        try body()
        Issue.record("no error, expected errno \(code)", sourceLocation: sourceLocation)
    } catch {
        #expect((error as? IOError)?.code == code, sourceLocation: sourceLocation)
    }
}
