// A file system of the kernel on a disk file: made, mounted over a loop device, filled with files
// whose content follows from their name, and compared with what is remembered of it.

import CLinux
import Foundation
import Testing

/// The file systems that the tests know.
enum FileSystemKind: String, CaseIterable, CustomTestStringConvertible {
    case ext4, xfs, btrfs

    var testDescription: String { rawValue }

    /// A command that makes one on a device.
    var make: [String] {
        switch self {
        case .ext4: ["mkfs.ext4", "-q", "-F"]
        case .xfs: ["mkfs.xfs", "-q", "-f"]
        case .btrfs: ["mkfs.btrfs", "-q", "-f"]
        }
    }

    /// Commands that find fault, without repairing, with one that is not mounted.
    var check: [String] {
        switch self {
        case .ext4: ["e2fsck", "-f", "-n"]
        case .xfs: ["xfs_repair", "-n"]
        case .btrfs: ["btrfs", "check", "--readonly"]
        }
    }
}

/// Files by name, with the seed that their content comes from.
typealias Manifest = [String: UInt64]

/// One mounted over a loop device, in the test's scratch folder.
final class MountedFileSystem {
    let scratch: Scratch
    let kind: FileSystemKind
    let folder: String
    private(set) var device = ""

    init(_ kind: FileSystemKind, in scratch: Scratch) throws {
        self.kind = kind
        self.scratch = scratch
        folder = scratch.newPath("files")
        try #require(mkdir(folder, 0o755) == 0)
    }

    func make(on disk: String) throws {
        device = try LoopDevice.attach(disk, in: scratch)
        try command(kind.make + [device])
        try mountDevice()
    }

    func mount(_ disk: String) throws {
        device = try LoopDevice.attach(disk, in: scratch)
        try mountDevice()
    }

    func mountDevice() throws {
        try command(["mount", "-t", kind.rawValue, "-o", "noatime", device, folder])
    }

    /// Unmounts, and lets the loop device go. The file below may have died.
    func unmount() throws {
        try unmountDevice()
        LoopDevice.release(device)
    }

    /// Unmounts only; waits for users that are just dying.
    func unmountDevice() throws {
        eventually("\(folder) is unmounted") { umount2(folder, 0) == 0 || errno == EINVAL }
    }

    /// Must find nothing; only while unmounted and attached.
    func check() throws { try command(kind.check + [device]) }

    private func command(_ words: [String]) throws {
        let outcome = try scratch.start(words, input: nil).wait()
        try #require(outcome.status == 0, "\(outcome)")
    }

    // MARK: - files

    /// Writes whole files and has each durable, with its name.
    func write(_ manifest: Manifest) throws {
        for (name, seed) in manifest {
            let code = Self.write(folder, name, seed)
            try #require(code == 0, "\(name): \(String(cString: strerror(code)))")
        }
    }

    func remove(_ names: some Sequence<String>) throws {
        for name in names { try #require(unlink(folder + "/" + name) == 0) }
    }

    /// All of it on the disk, as far as sync promises.
    func sync() throws { try command(["sync", "--file-system", folder]) }

    /// 0 when the file and its name were acknowledged as durable, else the errno.
    static func write(_ folder: String, _ name: String, _ seed: UInt64) -> Int32 {
        let descriptor = open("\(folder)/\(name)", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { return errno }
        defer { close(descriptor) }
        let bytes = content(seed)
        let n = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
        guard n == bytes.count else { return n < 0 ? errno : EIO }
        guard fsync(descriptor) == 0 else { return errno }
        let directory = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { return errno }
        defer { close(directory) }
        return fsync(directory) == 0 ? 0 : errno
    }

    /// 1 byte to 200 KiB.
    static func content(_ seed: UInt64) -> [UInt8] {
        var generator = SeededGenerator(seed: seed)
        let count = 1 + generator.below(generator.below(3) == 0 ? 200 << 10 : 8 << 10)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count + 8)
        while bytes.count < count {
            withUnsafeBytes(of: generator.next()) { bytes.append(contentsOf: $0) }
        }
        return Array(bytes[..<count])
    }

    /// What differs from `manifest`; other files count only when `exactly`.
    func difference(from manifest: Manifest, exactly: Bool) throws -> [String] {
        var wrong: [String] = []
        for (name, seed) in manifest {
            let data = FileManager.default.contents(atPath: folder + "/" + name)
            if data.map({ Array($0) }) != Self.content(seed) {
                wrong.append("\(name): \(data.map { "\($0.count) other bytes" } ?? "missing")")
            }
        }
        if exactly {
            let names = try FileManager.default.contentsOfDirectory(atPath: folder)
            wrong += names.filter { manifest[$0] == nil && $0 != "lost+found" }.map { "\($0): new" }
        }
        return wrong
    }
}
