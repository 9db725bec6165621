// What is in use: a past mount, a restore, a branch says which segments it reads, and whoever
// prunes leaves those alone. One small file per lease in the folder `leases` beside `segments`.
//
//   RANDOM.lease     held by a process: its file is locked (flock) as long as the lease is held,
//                    so the lease of a dead process ends with it. Removed by the next who looks.
//   NAME.branch      held by nobody: a branch stands on that LSN until it is deleted.
//
//     logdisk lease 1
//     purpose past mount
//     holder process 4711 on /mnt/past
//     at 1234
//     segment 00000000000000000001-00000000000000001234.log.segment     (any number of them)
//
// A lease without `segment` lines protects everything: it is taken before a reader finds out what
// it needs, so that nothing goes away in between.

import BlockModel
import DiskIO
import LogFormat
import Synchronization

/// What somebody uses, as others see it.
public struct Lease: Hashable, Sendable {
    /// In words: "past mount", "replay", "branch".
    public var purpose: String
    /// Who holds it, in words; of a branch the path of its folder.
    public var holder: String
    /// The point that must stay restorable; nil: none in particular.
    public var at: LSN?
    /// What must not be deleted; nil: everything.
    public var segments: Set<SegmentName>?
    /// Whether it outlives processes: a branch.
    public var isDurable = false

    public init(purpose: String, holder: String, at: LSN? = nil, segments: Set<SegmentName>? = nil)
    {
        self.purpose = purpose
        self.holder = holder
        self.at = at
        self.segments = segments
    }
}

/// A lease of this process; ends with `release` or when dropped. Any thread may call.
public final class HeldLease: Sendable {
    private let storage: Storage
    private let path: String
    /// Locked while open.
    private let file: StorageFile
    private let isHeld = Atomic<Bool>(true)

    fileprivate init(storage: Storage, path: String, file: StorageFile) {
        (self.storage, self.path, self.file) = (storage, path, file)
    }

    deinit { release() }

    /// Idempotent.
    public func release() {
        guard isHeld.exchange(false, ordering: .acquiringAndReleasing) else { return }
        // What stays by a failure here is unlocked: the next who looks removes it.
        try? storage.remove(path)
        file.close()
    }
}

/// The leases on one history. A value; any thread may call.
public struct LeaseFolder: Sendable {
    private static let magic = "logdisk lease 1"
    private static let heldSuffix = ".lease"
    private static let branchSuffix = ".branch"

    public let directory: String
    private let storage: Storage

    /// Of the history whose `segments` lie in `logDirectory`. The folder need not be there yet.
    public init(storage: Storage, logDirectory: String) {
        self.storage = storage
        directory = logDirectory + "/leases"
    }

    /// Takes a lease for as long as the result lives.
    public func take(_ lease: Lease) throws(IOError) -> HeldLease {
        try makeDirectory()
        // Never the same twice, so that nobody removes a new one in place of an old one.
        let name = String(UInt64.random(in: .min ... .max), radix: 16) + Self.heldSuffix
        let path = "\(directory)/\(name)"
        let temporary = path + ".tmp"
        let file = try storage.open(temporary, OpenOptions(.readWrite, creation: .exclusively))
        do throws(IOError) {
            // Locked before it has its name, so nobody ever takes it for left behind.
            guard try file.tryLock() else { throw IOError(.lock, temporary, 11) }
            try Self.write(lease, to: file)
            try storage.rename(temporary, to: path)
        } catch {
            try? storage.remove(temporary)
            file.close()
            throw error
        }
        return HeldLease(storage: storage, path: path, file: file)
    }

    /// All leases in force. What dead processes left is removed on the way.
    public func current() throws(IOError) -> [Lease] {
        guard storage.isDirectory(directory) else { return [] }
        var found: [Lease] = []
        for name in try storage.list(directory).sorted() {
            let path = "\(directory)/\(name)"
            if name.hasSuffix(Self.branchSuffix) {
                var lease = try read(path)
                lease.isDurable = true
                found.append(lease)
            } else if name.hasSuffix(Self.heldSuffix) {
                if let lease = try readHeld(path) { found.append(lease) }
            }
        }
        return found
    }

    // MARK: branches

    /// Says durably that the branch `name` stands on `lease.at`; false when there is one of that
    /// name already.
    public func addBranch(_ name: String, _ lease: Lease) throws(IOError) -> Bool {
        try makeDirectory()
        guard !storage.exists(branchPath(name)) else { return false }
        var failure: IOError?
        Array(Self.text(lease).utf8).withUnsafeBytes { bytes in
            do throws(IOError) {
                try storage.replace(name + Self.branchSuffix, in: directory, with: bytes)
            } catch { failure = error }
        }
        if let failure { throw failure }
        return true
    }

    /// The branches by name.
    public func branches() throws(IOError) -> [(name: String, lease: Lease)] {
        guard storage.isDirectory(directory) else { return [] }
        var found: [(name: String, lease: Lease)] = []
        for file in try storage.list(directory).sorted() where file.hasSuffix(Self.branchSuffix) {
            var lease = try read("\(directory)/\(file)")
            lease.isDurable = true
            found.append((String(file.dropLast(Self.branchSuffix.count)), lease))
        }
        return found
    }

    /// Nothing stands on it any more; without effect where there is no such branch.
    public func removeBranch(_ name: String) throws(IOError) {
        guard storage.exists(branchPath(name)) else { return }
        try storage.remove(branchPath(name))
        try storage.syncDirectory(directory)
    }

    private func branchPath(_ name: String) -> String {
        "\(directory)/\(name)\(Self.branchSuffix)"
    }

    // MARK: files

    private func makeDirectory() throws(IOError) {
        if storage.isDirectory(directory) { return }
        do throws(IOError) {
            try storage.createDirectory(directory)
        } catch {
            guard storage.isDirectory(directory) else { throw error }  // another one was faster
        }
    }

    private func readHeld(_ path: String) throws(IOError) -> Lease? {
        do throws(IOError) {
            let file = try storage.open(path, OpenOptions(.readWrite))
            defer { file.close() }
            if try file.tryLock() {
                try storage.remove(path)
                return nil
            }
            return try read(path)
        } catch {
            if error.isMissing { return nil }  // given back meanwhile
            throw error
        }
    }

    /// What cannot be understood protects everything.
    private func read(_ path: String) throws(IOError) -> Lease {
        let text = String(decoding: try storage.contents(of: path), as: UTF8.self)
        return Self.lease(text) ?? Lease(purpose: "unreadable lease", holder: path)
    }

    private static func write(_ lease: Lease, to file: StorageFile) throws(IOError) {
        var failure: IOError?
        Array(text(lease).utf8).withUnsafeBytes { bytes in
            do throws(IOError) { try file.write(bytes, at: 0) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    static func text(_ lease: Lease) -> String {
        // A line each, whatever the path of a folder holds.
        func line(_ text: String) -> String {
            String(text.map { $0.isNewline ? "?" : $0 })
        }
        var lines = [magic, "purpose \(line(lease.purpose))", "holder \(line(lease.holder))"]
        if let at = lease.at { lines.append("at \(at)") }
        for name in lease.segments?.sorted() ?? [] { lines.append("segment \(name)") }
        if lease.segments?.isEmpty == true { lines.append("nothing") }
        return lines.joined(separator: "\n") + "\n"
    }

    static func lease(_ text: String) -> Lease? {
        guard text.hasSuffix("\n") else { return nil }
        let lines = text.split(separator: "\n")
        guard lines.first == magic[...] else { return nil }
        var lease = Lease(purpose: "", holder: "")
        for line in lines.dropFirst() {
            let parts = line.split(separator: " ", maxSplits: 1)
            let value = parts.count > 1 ? String(parts[1]) : ""
            switch parts.first {
            case "purpose": lease.purpose = value
            case "holder": lease.holder = value
            case "at":
                guard let lsn = UInt64(value) else { return nil }
                lease.at = LSN(lsn)
            case "segment":
                guard let name = SegmentName(value) else { return nil }
                lease.segments = (lease.segments ?? []).union([name])
            case "nothing": lease.segments = lease.segments ?? []
            default: return nil
            }
        }
        return lease
    }
}
