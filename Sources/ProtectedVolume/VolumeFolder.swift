// The folder of a volume: who has it open, its superblock, and where image and log lie.
//
//   VOL/superblock   two slots (LogFormat/Superblock.swift)
//   VOL/lock         locked (flock) while open; its text says by whom
//   VOL/image.raw    the image, unless it is elsewhere
//   LOG/wal/         WAL files        LOG is VOL or the folder given at creation
//   LOG/segments/    history
//
// Threads: the superblock is written under a lock; the rest does not change while open.

import BlockModel
import CLinux
import DiskIO
import LogFormat
import WriteLog

#if canImport(Glibc)
    import Glibc
#endif

/// How a volume is made.
public struct VolumeCreation: Sendable {
    public var volumeBytes: UInt64
    /// An existing file or device to protect in place; nil: VOL/image.raw, made sparse.
    public var imagePath: String?
    /// Folder for WAL and segments; nil: the volume's own.
    public var logDirectory: String?
    public var walFileBytes: UInt64 = 64 << 20
    public var walBytesMax: UInt64 = 4 << 30
    public var ringBytes: UInt64 = 64 << 20
    public var volume = VolumeID.random()
    /// The epoch before the first one of this folder: greater than 0 where the volume's life began
    /// elsewhere.
    public var epoch: UInt64 = 0
    public var createdWall: Int64

    public init(volumeBytes: UInt64, createdWall: Int64 = clinux_wall_ns()) {
        self.volumeBytes = volumeBytes
        self.createdWall = createdWall
    }
}

public final class VolumeFolder: @unchecked Sendable {
    // @unchecked: `current` is under `lock`; the rest is constant after init.
    public let storage: Storage
    public let path: String
    public let image: StorageFile
    /// Things the user should know, such as a damaged superblock slot.
    public private(set) var warnings: [String] = []
    private let lockFile: StorageFile
    private let superblockFile: StorageFile
    private let lock = Lock()
    private var current: Superblock
    private var made: [String] = []
    private let slot = AlignedBuffer(count: Superblock.slotBytes)

    private init(
        storage: Storage, path: String, image: StorageFile, lockFile: StorageFile,
        superblockFile: StorageFile, superblock: Superblock
    ) {
        self.storage = storage
        self.path = path
        self.image = image
        self.lockFile = lockFile
        self.superblockFile = superblockFile
        current = superblock
    }

    public var superblock: Superblock { lock.withLock { current } }
    public var imagePath: String { Self.imagePath(path, superblock) }
    public var logDirectory: String { Self.logDirectory(path, superblock) }
    public var walDirectory: String { logDirectory + "/wal" }
    public var segmentsDirectory: String { logDirectory + "/segments" }

    public static func imagePath(_ path: String, _ superblock: Superblock) -> String {
        superblock.imagePath.hasPrefix("/")
            ? superblock.imagePath : "\(path)/\(superblock.imagePath)"
    }

    public static func logDirectory(_ path: String, _ superblock: Superblock) -> String {
        superblock.logDirectory.isEmpty ? path : superblock.logDirectory
    }

    /// Changes the superblock durably.
    func updateSuperblock(_ change: (inout Superblock) -> Void) throws(IOError) {
        lock.lock()
        defer { lock.unlock() }
        var next = current
        change(&next)
        next.generation = current.generation + 1
        next.encode(to: slot.bytes)
        try superblockFile.write(
            UnsafeRawBufferPointer(slot.bytes), at: next.slotOffset, .immediate)
        current = next
    }

    /// Changes both slots, one after the other: what only the new state allows, such as giving log
    /// files free, must not hang on a single slot.
    func updateSuperblocks(_ change: (inout Superblock) -> Void) throws(IOError) {
        try updateSuperblock(change)
        try updateSuperblock { _ in }
    }

    /// Gives the volume free. Idempotent.
    public func close() {
        image.close()
        superblockFile.close()
        lockFile.close()
    }
}

// MARK: - opening

extension VolumeFolder {
    /// Opens and locks a volume that is ready. `purpose` is what others are told who try as well.
    public static func open(
        _ path: String, on storage: Storage, purpose: String = ""
    ) throws(VolumeError) -> VolumeFolder {
        let (found, warnings) = try readSuperblock(path, on: storage)
        guard found.state == .ready else { throw .halfCreated(path) }
        let lockFile = try takeLock(path, on: storage, purpose: purpose)
        do throws(VolumeError) {
            // Once more, now that nobody else can write it.
            let (superblock, _) = try readSuperblock(path, on: storage)
            let logs = logDirectory(path, superblock)
            guard storage.isDirectory(logs), storage.isDirectory(logs + "/wal"),
                storage.isDirectory(logs + "/segments")
            else { throw .logDirectoryMissing(logs) }
            let image = try openImage(imagePath(path, superblock), on: storage)
            let folder = try translate { () throws(IOError) in
                VolumeFolder(
                    storage: storage, path: path, image: image, lockFile: lockFile,
                    superblockFile: try storage.open(
                        path + "/superblock", OpenOptions(.readWrite)),
                    superblock: superblock)
            }
            let actual = try translate { () throws(IOError) in try image.size() }
            let fits =
                image.isBlockDevice
                ? actual >= superblock.volumeBytes : actual == superblock.volumeBytes
            guard fits else {
                folder.close()
                throw .imageWrongSize(
                    image.path, expected: superblock.volumeBytes, actual: actual)
            }
            folder.warnings = warnings
            return folder
        } catch {
            lockFile.close()
            throw error
        }
    }

    /// The superblock of a volume, whoever has it open.
    public static func peek(
        _ path: String, on storage: Storage
    ) throws(VolumeError) -> Superblock {
        try readSuperblock(path, on: storage).superblock
    }

    /// Who has the volume open now; nil when it is free.
    public static func holder(_ path: String, on storage: Storage) -> VolumeHolder? {
        guard let file = try? storage.open(path + "/lock", OpenOptions(.readWrite)) else {
            return nil
        }
        defer { file.close() }
        guard (try? file.tryLock()) == false else { return nil }
        return readHolder(path, on: storage) ?? VolumeHolder(processID: 0, purpose: "")
    }

    static func readSuperblock(
        _ path: String, on storage: Storage
    ) throws(VolumeError) -> (superblock: Superblock, warnings: [String]) {
        let name = path + "/superblock"
        guard storage.exists(name) else { throw .notAVolume(path) }
        var slots: [Result<Superblock, Superblock.DecodeFailure>] = []
        try translate { () throws(IOError) in
            let file = try storage.open(name, OpenOptions(.readOnly))
            defer { file.close() }
            let slot = AlignedBuffer(count: Superblock.slotBytes)
            for index in 0..<Superblock.slotCount {
                try file.readZeroExtended(
                    into: slot.bytes, at: UInt64(index * Superblock.slotBytes))
                slots.append(Superblock.decode(UnsafeRawBufferPointer(slot.bytes)))
            }
        }
        var valid: [Superblock] = []
        for slot in slots {
            switch slot {
            case .success(let superblock): valid.append(superblock)
            case .failure(.futureVersion(let version)): throw .futureVersion(path, version)
            case .failure(.damaged): break
            }
        }
        guard let newest = valid.max(by: { $0.generation < $1.generation }) else {
            throw .superblocksDamaged(path)
        }
        var warnings: [String] = []
        // The first generation ever written has no sibling yet.
        if valid.count < Superblock.slotCount, newest.generation > 1 {
            warnings.append("one of two superblocks of \(path) is damaged; the other one is used")
        }
        return (newest, warnings)
    }

    private static func takeLock(
        _ path: String, on storage: Storage, purpose: String
    ) throws(VolumeError) -> StorageFile {
        let file = try translate { () throws(IOError) in
            try storage.open(path + "/lock", OpenOptions(.readWrite, creation: .ifMissing))
        }
        let got = try translate { () throws(IOError) in try file.tryLock() }
        guard got else {
            file.close()
            throw .inUse(path, holder: readHolder(path, on: storage))
        }
        let text = Array("\(getpid())\n\(purpose)\n".utf8)
        // The text only helps others to say who has it: a full disk must not keep a volume shut.
        try? file.truncate(to: 0)
        text.withUnsafeBytes { try? file.write($0, at: 0) }
        return file
    }

    private static func readHolder(_ path: String, on storage: Storage) -> VolumeHolder? {
        guard let bytes = try? storage.contents(of: path + "/lock", limit: 65536) else {
            return nil
        }
        let lines = String(decoding: bytes, as: UTF8.self).split(
            separator: "\n", omittingEmptySubsequences: false)
        guard let first = lines.first, let processID = Int32(first) else { return nil }
        return VolumeHolder(
            processID: processID, purpose: lines.count > 1 ? String(lines[1]) : "")
    }

    private static func openImage(
        _ path: String, on storage: Storage
    ) throws(VolumeError) -> StorageFile {
        let image: StorageFile
        do throws(IOError) {
            image = try storage.open(path, OpenOptions(.readWrite))
        } catch {
            throw error.isMissing ? .imageMissing(path) : .io(error)
        }
        let got = try translate { () throws(IOError) in try image.tryLock() }
        guard got else {
            image.close()
            throw .imageInUse(path)
        }
        image.expectSmallAccess()
        return image
    }

    static func translate<R>(_ body: () throws(IOError) -> R) throws(VolumeError) -> R {
        do throws(IOError) { return try body() } catch { throw .io(error) }
    }
}

// MARK: - creating

extension VolumeFolder {
    /// Makes the folder of a volume, in state `creating` and locked. The caller fills the image,
    /// puts the base snapshot into `segmentsDirectory` and calls `finishCreation`, or
    /// `abandonCreation`. On failure nothing is left.
    public static func create(
        _ path: String, _ creation: VolumeCreation, on storage: Storage
    ) throws(VolumeError) -> VolumeFolder {
        guard creation.volumeBytes > 0, creation.volumeBytes % UInt64(Sector.bytes) == 0,
            creation.volumeBytes <= Superblock.volumeBytesMax
        else { throw .invalidSize("\(creation.volumeBytes)") }
        if storage.exists(path) {
            let names = try translate { () throws(IOError) in try storage.list(path) }
            guard names.isEmpty else {
                // What a creation that was cut short left behind is told apart.
                if let found = try? readSuperblock(path, on: storage).superblock,
                    found.state == .creating
                {
                    throw .halfCreated(path)
                }
                throw .folderNotEmpty(path)
            }
        }
        if let logs = creation.logDirectory {
            guard storage.isDirectory(logs) else { throw .logDirectoryMissing(logs) }
            for name in ["wal", "segments"] where storage.exists("\(logs)/\(name)") {
                throw .folderNotEmpty("\(logs)/\(name)")
            }
        }
        var made: [String] = []
        do throws(VolumeError) {
            let folder = try make(path, creation, on: storage, made: &made)
            folder.made = made
            return folder
        } catch {
            removeMade(made, on: storage)
            throw error
        }
    }

    private static func make(
        _ path: String, _ creation: VolumeCreation, on storage: Storage, made: inout [String]
    ) throws(VolumeError) -> VolumeFolder {
        var superblock = Superblock(
            volume: creation.volume, volumeBytes: creation.volumeBytes,
            createdWall: creation.createdWall, walFileBytes: creation.walFileBytes,
            walBytesMax: creation.walBytesMax, ringBytes: creation.ringBytes,
            imagePath: creation.imagePath ?? "image.raw",
            logDirectory: creation.logDirectory ?? "")
        superblock.checkpoint.wallNanoseconds = creation.createdWall
        superblock.epoch = creation.epoch
        var created: [String] = []
        defer { made = created }
        if !storage.exists(path) {
            try translate { () throws(IOError) in try storage.createDirectory(path) }
            created.append(path)
            try translate { () throws(IOError) in try storage.syncDirectory(parent(of: path)) }
        }
        created.append(path + "/lock")
        let lockFile = try takeLock(path, on: storage, purpose: "create")
        let logs = logDirectory(path, superblock)
        for name in ["\(logs)/wal", "\(logs)/segments"] {
            try translate { () throws(IOError) in try storage.createDirectory(name) }
            created.append(name)
        }
        let imageFile = imagePath(path, superblock)
        if creation.imagePath == nil {
            created.append(imageFile)
            try translate { () throws(IOError) in
                let file = try storage.open(
                    imageFile, OpenOptions(.readWrite, creation: .exclusively))
                defer { file.close() }
                try file.truncate(to: creation.volumeBytes)
                try file.sync()
            }
        }
        let image = try openImage(imageFile, on: storage)
        created.append(path + "/superblock")
        return try translate { () throws(IOError) in
            let file = try storage.open(
                path + "/superblock", OpenOptions(.readWrite, creation: .exclusively))
            try file.truncate(to: UInt64(Superblock.slotBytes * Superblock.slotCount))
            let folder = VolumeFolder(
                storage: storage, path: path, image: image, lockFile: lockFile,
                superblockFile: file, superblock: superblock)
            try folder.updateSuperblock { _ in }
            try file.sync()
            try storage.syncDirectory(path)
            if logs != path { try storage.syncDirectory(logs) }
            return folder
        }
    }

    private static func parent(of path: String) -> String {
        var names = path.split(separator: "/", omittingEmptySubsequences: true)
        if !names.isEmpty { names.removeLast() }
        let folder = names.joined(separator: "/")
        return path.hasPrefix("/") ? "/" + folder : folder.isEmpty ? "." : folder
    }

    /// Ends a creation: image and base snapshot are in place. `start` is the state that they have
    /// where the volume's life began elsewhere: LSNs and stamps go on behind it.
    public func finishCreation(at start: Stamp? = nil) throws(VolumeError) {
        try Self.translate { () throws(IOError) in
            try image.sync()
            // A copy came in small pieces; what others wrote to an image of theirs did not.
            if superblock.imagePath.hasPrefix("/") { image.forgetCached() }
            try storage.syncDirectory(path)
            try storage.syncDirectory(segmentsDirectory)
            // Both slots, so that one damaged sector cannot take a new volume away.
            try updateSuperblock { superblock in
                if let start {
                    superblock.checkpoint = start
                    superblock.durableLSN = start.lsn
                    superblock.epochFirstLSN = start.lsn.next
                }
                superblock.state = .ready
            }
            try updateSuperblock { _ in }
        }
    }

    /// Removes everything that `create` made; never an image that was there before.
    public func abandonCreation() {
        for name in (try? storage.list(segmentsDirectory)) ?? [] {
            // Best effort: nothing depends on it.
            try? storage.remove("\(segmentsDirectory)/\(name)")
        }
        close()
        Self.removeMade(made, on: storage)
    }

    private static func removeMade(_ made: [String], on storage: Storage) {
        for path in made.reversed() where storage.exists(path) { try? storage.remove(path) }
    }
}
