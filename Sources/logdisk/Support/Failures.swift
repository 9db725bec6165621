// Errors of the rooms in the words and exit codes of the command line. The only place where that
// translation is made; tables in Tests/CommandTests.

import BlockModel
import CommandText
import DiskIO
import Foundation
import FuseMount
import History
import ProtectedVolume
import WriteLog

extension CommandFailure {
    init(_ error: IOError, object: String) {
        self.init(
            .failed, object, "cannot \(error.operation.rawValue) \(error.path)",
            cause: error.reason, hint: Self.hint(for: error))
        if error.code == 13 || error.code == 1 { status = .refused }  // EACCES, EPERM
    }

    private static func hint(for error: IOError) -> String? {
        if error.isNoSpace { return "make room where \(error.path) lies, then try again" }
        if error.code == 13 || error.code == 1 { return "run it as the owner of the volume" }
        if error.code == 5 { return "look at the disk: dmesg, smartctl" }
        if error.isMissing { return "make the folder that it shall lie in, or mend the path" }
        if error.code == 17 || error.code == 20 {  // EEXIST, ENOTDIR
            return "something else lies there: choose another place"
        }
        return nil
    }

    init(_ error: VolumeError, object: String) {
        switch error {
        case .notAVolume(let path):
            self.init(
                .noSuchVolume, object, "there is no volume in \(path)", cause: "no superblock",
                hint: "logdisk create \(path) --size 10G")
        case .halfCreated(let path):
            self.init(
                .noSuchVolume, object, "the creation of this volume did not end",
                cause: "it was interrupted by a crash",
                hint: "remove the folder and create it again: rm -r \(path)")
        case .futureVersion(let path, let version):
            self.init(
                .failed, object, "\(path) was written by a newer logdisk",
                cause: "format version \(version)", hint: "use that version; nothing was changed")
        case .superblocksDamaged(let path):
            self.init(
                .damaged, object, "both superblocks are damaged", cause: "in \(path)/superblock",
                hint: "logdisk points \(path) shows what its segments still hold")
        case .folderNotEmpty(let path):
            self.init(
                .usage, object, "\(path) is not empty", hint: "choose a new or an empty folder")
        case .inUse(let path, let holder):
            self.init(
                .inUse, object, "the volume is in use", cause: Self.words(holder),
                hint: "logdisk status \(path)")
        case .imageMissing(let path):
            self.init(
                .damaged, object, "the image is missing", cause: path,
                hint: "put it back, or make it anew: "
                    + "logdisk replay \(object) --at now --output \(path)")
        case .imageWrongSize(let path, let expected, let actual):
            self.init(
                .damaged, object, "the image has the wrong size",
                cause: "\(path) has \(actual) bytes, not \(expected)",
                hint: "move it away, then: "
                    + "logdisk replay \(object) --at now --output \(path)")
        case .imageInUse(let path):
            self.init(
                .inUse, object, "another process holds the image", cause: path,
                hint: "find it with: fuser -v \(path)")
        case .logDirectoryMissing(let path):
            self.init(
                .noSuchVolume, object, "the log folder is missing", cause: path,
                hint: "mount the file system that holds it, then try again")
        case .foreignFile(let path):
            self.init(
                .damaged, object, "a file of another volume lies in the log", cause: path,
                hint: "move it out of the folder")
        case .logDamaged(_, let lastGood, let claimed):
            let point = "\(lastGood.lsn) of \(TimeText.rfc3339(lastGood.wallNanoseconds))"
            self.init(
                .damaged, object, "acknowledged records are lost from the log",
                cause: "valid up to lsn \(point)" + (claimed.map { ", written up to \($0)" } ?? ""),
                hint: "logdisk verify \(object) --repair goes on from the last valid record")
        case .invalidSize(let text):
            self.init(.usage, object, "not a possible size", cause: text)
        case .io(let error):
            self.init(error, object: object)
        }
    }

    private static func words(_ holder: VolumeHolder?) -> String? {
        guard let holder, holder.processID > 0 else { return nil }
        let purpose = holder.purpose.isEmpty ? "" : ", \(holder.purpose)"
        return "process \(holder.processID)\(purpose)"
    }

    init(_ error: MountError, object: String) {
        let status: ExitStatus =
            switch error {
            case .mountPointMissing, .mountPointNotDirectory, .mountPointNotEmpty: .usage
            case .alreadyMounted, .staleMount, .busy: .inUse
            case .noDevice, .helperMissing: .unreachable
            case .notPermitted: .refused
            case .notMounted: .noSuchVolume
            case .mountPointUnusable, .failed: .failed
            }
        self.init(
            status, object, "\(error)",
            hint: error.hint?.replacingOccurrences(of: "MOUNTPOINT", with: object))
    }

    init(_ error: HistoryError, object: String) {
        switch error {
        case .store(let failure):
            self.init(failure, object: object)
        case .damaged, .payload, .order, .sourceEnds, .outsideVolume:
            self.init(
                .damaged, object, "history is damaged", cause: "\(error)",
                hint: "logdisk verify \(object) shows what stays restorable")
        case .source(let failure as IOError), .output(let failure):
            self.init(failure, object: object)
        case .source(let failure as LogDamage):
            self.init(
                .damaged, object, "the log is damaged", cause: "\(failure)",
                hint: "logdisk points \(object) shows what stays restorable")
        case .source(let failure):
            self.init(.failed, object, "the source cannot be read", cause: "\(failure)")
        case .outputExists(let path):
            self.init(
                .usage, object, "\(path) exists", hint: "choose another name, or add --force")
        case .outputTooSmall(let path, let bytes, let needed):
            self.init(
                .usage, object, "\(path) is too small",
                cause: "\(bytes) bytes, the volume has \(needed)",
                hint: "choose a device of at least \(ByteSize(bytes: needed))")
        case .notRestorable(let refusal):
            self.init(refusal, object: object)
        case .cancelled:
            self = .interrupted
        }
    }

    init(_ error: KeyFileError, object: String) {
        switch error {
        case .io(let failure) where failure.isMissing && failure.operation == .open:
            self.init(
                .usage, object, "there is no key file", cause: failure.path,
                hint: "logdisk key create \(failure.path)")
        case .io(let failure):
            self.init(failure, object: object)
        case .exists(let path):
            self.init(
                .usage, object, "\(path) exists", cause: "a key is never written over",
                hint: "choose another name")
        case .openToOthers(let path, _):
            self.init(
                .refused, object, "others can read the key", cause: "\(error)",
                hint: "chmod 600 \(path), and make a new key if anybody may have read this one")
        case .notAFile, .notAKey:
            self.init(
                .usage, object, "this is not a key file", cause: "\(error)",
                hint: "name a file made by logdisk key create")
        case .futureVersion:
            self.init(
                .failed, object, "the key was made by a newer logdisk", cause: "\(error)",
                hint: "use that version")
        case .damaged:
            self.init(
                .damaged, object, "the key is damaged", cause: "\(error)",
                hint: "put your copy of the key file in its place")
        }
    }

    init(_ error: StoreError, object: String) {
        switch error.cause {
        case .io(let failure): self.init(failure, object: object)
        case .unreachable:
            self.init(.unreachable, object, "the segment store is not reachable", cause: "\(error)")
        case .refused:
            self.init(.refused, object, "the segment store refuses access", cause: "\(error)")
        case .otherKey(let id):
            self.init(
                .refused, object, "this is not the key of its history", cause: "\(error)",
                hint: "give the file of key \(id) with --key-file")
        case .needsKey:
            self.init(
                .refused, object, "its history is sealed", cause: "no key was given",
                hint: "give the key file with --key-file")
        case .missing where error.operation == .list:
            self.init(.noSuchVolume, object, "the segment store is gone", cause: "\(error)")
        case .missing, .exists, .short, .damaged:
            self.init(
                .damaged, object, "the segment store is not as it should be", cause: "\(error)",
                hint: "logdisk verify \(object)")
        }
    }
}

/// Runs `body` and turns what the rooms throw into failures of `object`.
func translating<R>(_ object: String, _ body: () throws -> R) throws(CommandFailure) -> R {
    do {
        return try body()
    } catch let error as CommandFailure {
        throw error
    } catch let error as VolumeError {
        throw CommandFailure(error, object: object)
    } catch let error as HistoryError {
        throw CommandFailure(error, object: object)
    } catch let error as NotRestorable {
        throw CommandFailure(error, object: object)
    } catch let error as MountError {
        throw CommandFailure(error, object: object)
    } catch let error as StoreError {
        throw CommandFailure(error, object: object)
    } catch let error as KeyFileError {
        throw CommandFailure(error, object: object)
    } catch let error as IOError {
        throw CommandFailure(error, object: object)
    } catch let error as DeviceError {
        throw CommandFailure(IOError(.write, object, error.rawValue), object: object)
    } catch {
        throw CommandFailure(.failed, object, "it did not work", cause: "\(error)")
    }
}
