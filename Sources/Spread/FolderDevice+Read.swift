// Sets on a folder, read back; and what a run finds of the one before it.

import DiskIO

extension FolderDevice {
    /// Removes from an unfinished set all that its journal does not name.
    static func prune(_ work: Folder, keeping items: [RememberedItem]) throws(IOError) {
        let temporary = Array("MANIFEST.tmp".utf8)
        if work.exists(temporary) { try work.remove(temporary) }
        if work.exists(manifestName) { try work.remove(manifestName) }
        var kept: Set<[UInt8]> = []
        for item in items {
            kept.insert(
                item.place == 0
                    ? filePath(item.source, item.path) : segmentPath(item.place - 1))
        }
        for part in [filesName, segmentsName] {
            try prune(work, part, keeping: kept)
        }
    }

    private static func prune(
        _ folder: Folder, _ path: [UInt8], keeping kept: Set<[UInt8]>
    ) throws(IOError) {
        for name in try folder.folder(path).list() {
            let child = path + [0x2F] + name
            if kept.contains(child) { continue }
            if try folder.status(child).isFolder {
                try prune(folder, child, keeping: kept)
            } else {
                try folder.remove(child)
            }
        }
    }

    // MARK: - sets

    func foundSets() throws(DeviceFailure) -> [SetOnDevice] {
        let root = try opened()
        let names = try on { () throws(IOError) in try root.list() }
        var found: [SetOnDevice] = []
        for bytes in names {
            guard let text = String(validating: bytes, as: UTF8.self) else { continue }
            if let set = look(root, bytes, text) { found.append(set) }
        }
        return found
    }

    private func look(_ root: Folder, _ bytes: [UInt8], _ text: String) -> SetOnDevice? {
        let suffix = ".unfinished"
        let isUnfinished = text.hasPrefix(".") && text.hasSuffix(suffix)
        let name = isUnfinished ? String(text.dropFirst().dropLast(suffix.count)) : text
        guard SetIdentity.fault(ofName: name) == nil, let folder = try? root.folder(bytes) else {
            return nil
        }
        let (setID, deviceID) = Self.identities(folder)
        let hasManifest = folder.exists(Self.manifestName)
        guard setID != nil || hasManifest || folder.exists(Self.identityName) else {
            return nil
        }
        // A set whose manifest is lost still has its segments and files.
        let state: SetOnDevice.State =
            isUnfinished ? .unfinished : hasManifest ? .complete : .damaged
        return SetOnDevice(
            name: name, state: state, location: text, setID: setID, deviceID: deviceID)
    }

    /// What the file DEVICE says.
    private static func identities(_ folder: Folder) -> (set: [UInt8]?, device: [UInt8]?) {
        guard let bytes = try? contents(folder, identityName), bytes.count < 4096 else {
            return (nil, nil)
        }
        var fields: [Substring: [UInt8]] = [:]
        let text = String(decoding: bytes, as: UTF8.self)
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count == 2, let id = [UInt8](hexText: words[1]), id.count == 16 else {
                continue
            }
            fields[words[0]] = id
        }
        return (fields["set-id"], fields["device-id"])
    }

    func setFolder(_ set: SetOnDevice) throws(DeviceFailure) -> Folder {
        let root = try opened()
        return try on { () throws(IOError) in try root.folder(Array(set.location.utf8)) }
    }

    func readItem(
        _ item: StoredItem, _ source: [UInt8], _ path: [UInt8], _ folder: Folder,
        _ header: (SegmentHeader?) -> Void, _ body: (ItemPiece) throws -> Void
    ) throws {
        let name =
            item.place == 0 ? Self.filePath(source, path) : Self.segmentPath(item.place - 1)
        let file = try folder.file(name, OpenOptions(.readOnly))
        defer { file.close() }
        var start: UInt64 = 0
        if item.place > 0 {
            guard let found = try Self.header(of: file) else {
                header(nil)
                return
            }
            header(found)
            start = UInt64(found.encodedBytes)
        }
        let size = try file.size()
        let end = start + item.size
        guard size == end else { throw IOError(.read, file.path, 5) }
        let buffer = AlignedBuffer(count: Int(min(max(item.size, 1), 1 << 20)))
        var position = start
        while position < end {
            let data = try file.nextData(from: position)
            let dataStart = min(data?.lowerBound ?? end, end)
            if dataStart > position {
                try body(.hole(dataStart - position))
                position = dataStart
                continue
            }
            let count = Int(
                min(UInt64(buffer.count), min(data?.upperBound ?? end, end) - position))
            let piece = UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[..<count])
            guard try file.read(into: piece, at: position) == count else {
                throw IOError(.read, file.path, 5)
            }
            try body(.bytes(UnsafeRawBufferPointer(piece)))
            position += UInt64(count)
        }
    }

    /// The header at the start of a file; nil where it is not valid.
    static func header(of file: StorageFile) throws(IOError) -> SegmentHeader? {
        var bytes: [UInt8] = []
        var claimed = SegmentHeader.unit
        while bytes.count < claimed {
            var more = [UInt8](repeating: 0, count: claimed - bytes.count)
            var failure: IOError?
            var count = 0
            let offset = UInt64(bytes.count)
            more.withUnsafeMutableBytes { target in
                do throws(IOError) {
                    count = try file.read(into: target, at: offset)
                } catch { failure = error }
            }
            if let failure { throw failure }
            guard count == more.count else { return nil }
            bytes += more
            guard let next = SegmentHeader.claimedBytes(bytes) else { return nil }
            claimed = max(next, bytes.count)
        }
        return SegmentHeader(decoding: bytes)
    }
}
