// set.json: what the server keeps of a set of backups beside its files, and the text DEVICE, which
// lets `dir:` read a set in place, from the store's folder.

import DiskIO
import Foundation
import ServerAPI

/// The content of set.json. Keys are stable.
struct SetRecord: Codable, Hashable, Sendable {
    var format = 1
    var id: String
    var name: String
    var deviceID: String
    var createdNanoseconds: Int64
    /// Of the whole set; known when it becomes visible.
    var fileCount: Int?
    var bytes: UInt64?

    enum CodingKeys: String, CodingKey {
        case format, id, name, bytes
        case deviceID = "device_id"
        case createdNanoseconds = "created_nanoseconds"
        case fileCount = "file_count"
    }

    static let fileName = "set.json"
    static let identityName = "DEVICE"

    /// nil: not understood.
    static func decode(_ bytes: [UInt8]) -> SetRecord? {
        guard let record = try? JSONDecoder().decode(SetRecord.self, from: Data(bytes)),
            record.format == 1, ServerAPI.isSetID(record.id), ServerAPI.isSetName(record.name)
        else { return nil }
        return record
    }

    func encoded() -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        // Plain values of our own: they always encode.
        return Array((try? encoder.encode(self)) ?? Data()) + [0x0A]
    }

    /// As a folder that is a device has it (Spread/FolderDevice.swift).
    var identity: [UInt8] {
        Array("set \(name)\nset-id \(id)\ndevice-id \(deviceID)\n".utf8)
    }

    /// The name of its folder.
    func folderName(isComplete: Bool) -> String { isComplete ? name : ".\(name).unfinished" }
}

extension Storage {
    /// Removes a folder with all that is in it; one that is not there is no error.
    func removeTree(_ path: String) throws(IOError) {
        guard exists(path) else { return }
        if isDirectory(path) {
            for name in try list(path) { try removeTree("\(path)/\(name)") }
        }
        try remove(path)
    }
}

extension StorageFile {
    /// Fills `target`; a file that ends before is damaged.
    func fill(
        _ target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(ErrorReply) {
        do throws(IOError) {
            guard try read(into: target, at: offset) == target.count else {
                throw IOError(.read, path, 61)  // ENODATA
            }
        } catch {
            if error.code == 61 { throw ErrorReply(.damaged, "it is shorter than it was") }
            throw ErrorReply(error)
        }
    }

    func bytes(_ count: Int, at offset: UInt64) throws(ErrorReply) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var failure: ErrorReply?
        bytes.withUnsafeMutableBytes { target in
            do throws(ErrorReply) { try fill(target, at: offset) } catch { failure = error }
        }
        if let failure { throw failure }
        return bytes
    }
}
