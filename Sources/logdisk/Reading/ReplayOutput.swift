// Where a replay may write to, and where not: never over the volume it reads, never over something
// that exists without being told to.

import CommandText
import DiskIO
import Foundation
import FuseMount
import History
import LogFormat
import ProtectedVolume

struct ReplayOutput {
    /// Absolute.
    let path: String
    let isDevice: Bool
    private let object: String

    /// Checks what can be known before history is read.
    /// `isNow` says that the state wanted is the newest one.
    init(
        _ output: String, force: Bool, isNow: Bool = false, _ location: VolumeLocation
    ) throws(CommandFailure) {
        object = location.object
        path = PathText.canonical(output)
        var info = stat()
        let exists = stat(path, &info) == 0
        let kind = exists ? info.st_mode & S_IFMT : 0
        isDevice = kind == S_IFBLK
        try checkPlace(location, mayBeImage: isNow && !exists)
        if !exists {
            try checkFolder()
        } else if isDevice {
            try checkDevice(force: force, location)
        } else if kind != S_IFREG {
            throw refused("\(output) is neither a file nor a block device", "name a file or a disk")
        } else if !force {
            throw refused("\(output) exists", "choose another name, or add --force")
        }
    }

    /// Checks what depends on the size.
    func check(volumeBytes: UInt64) throws(CommandFailure) {
        guard isDevice else { return }
        let bytes = try translating(object) {
            try DiskStorage().open(path, OpenOptions(.readOnly)).size()
        }
        guard bytes >= volumeBytes else {
            throw CommandFailure(
                HistoryError.outputTooSmall(path: path, bytes: bytes, needed: volumeBytes),
                object: object)
        }
    }

    private func refused(_ what: String, _ hint: String) -> CommandFailure {
        CommandFailure(.usage, object, what, hint: hint)
    }

    /// A missing image may be made anew, in its newest state: what the log holds behind the
    /// checkpoint is redone on it at the next mount, to the same result.
    private func checkPlace(
        _ location: VolumeLocation, mayBeImage: Bool
    ) throws(CommandFailure) {
        let hint = "choose a place outside of the volume"
        if let mount = FuseMount.mountPoints(of: location.path).first(where: {
            PathText.lies(path, in: $0)
        }) {
            throw refused("the output lies on the volume's own mount, \(mount)", hint)
        }
        if case .storeFolder = location.source, PathText.lies(path, in: location.path) {
            throw refused("the output lies in the log server's store, \(location.path)", hint)
        }
        guard let superblock = try? location.superblock() else { return }
        let image = PathText.canonical(VolumeFolder.imagePath(location.path, superblock))
        if path == image {
            let isFree = VolumeFolder.holder(location.path, on: DiskStorage()) == nil
            if mayBeImage, isFree { return }
            throw refused("the output is the volume's own image", hint)
        }
        let logs = VolumeFolder.logDirectory(location.path, superblock)
        for folder in [location.path, logs + "/wal", logs + "/segments"]
        where PathText.lies(path, in: PathText.canonical(folder)) {
            throw refused("the output lies in the volume's own folder, \(folder)", hint)
        }
    }

    private func checkFolder() throws(CommandFailure) {
        let folder = PathText.parent(of: path)
        var info = stat()
        guard stat(folder, &info) == 0, info.st_mode & S_IFMT == S_IFDIR else {
            throw refused("the folder \(folder) does not exist", "mkdir -p \(folder)")
        }
        guard access(folder, W_OK) == 0 else {
            throw CommandFailure(
                .refused, object, "nothing can be written in \(folder)",
                cause: String(cString: strerror(errno)))
        }
    }

    private func checkDevice(force: Bool, _ location: VolumeLocation) throws(CommandFailure) {
        // A loop device on this volume would write what is being read.
        let name = path.split(separator: "/").last.map(String.init) ?? ""
        if let backing = try? String(
            contentsOfFile: "/sys/block/\(name)/loop/backing_file", encoding: .utf8)
        {
            let file = backing.split(separator: "\n").first.map(String.init) ?? ""
            let behind = try? ReplayOutput(file, force: true, location)
            if behind == nil {
                throw refused(
                    "\(path) is a loop device on the volume's own file", "choose another device")
            }
        }
        let descriptor = open(path, O_RDONLY | O_EXCL | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw CommandFailure(
                errno == EBUSY ? .inUse : .failed, object, "\(path) cannot be overwritten",
                cause: errno == EBUSY
                    ? "it is mounted or part of another device"
                    : String(cString: strerror(errno)),
                hint: "lsblk \(path) shows how it is used")
        }
        defer { close(descriptor) }
        var head = [UInt8](repeating: 0, count: 1 << 20)
        let count = read(descriptor, &head, head.count)
        if !force, count > 0, head[..<count].contains(where: { $0 != 0 }) {
            throw refused("\(path) is not empty", "add --force to overwrite it")
        }
    }
}
