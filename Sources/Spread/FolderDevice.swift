// A folder of a file system as a backup device: a mounted disk, flash, a RAM disk, a network mount.
//
//   DEVICE/SET/MANIFEST              what the whole set holds, and where (ManifestEncoder)
//   DEVICE/SET/DEVICE                text: the ids of the set and of this device in it
//   DEVICE/SET/files/SOURCE/PATH     whole files under their own names
//   DEVICE/SET/segments/00000017     a part of a file behind its header (SegmentHeader), or a whole
//                                    file that this file system cannot name
//
// While it is written the set is DEVICE/.SET.unfinished, with a journal, a folder tmp for the item
// under way and a file that keeps room for the manifest. One rename makes it visible.
//
//   crash …                     found by the next run
//   before the first sync       an empty journal or none: begun anew
//   between two syncs           the journal's items; everything else is removed
//   after writeManifest         hasManifest: only the rename is missing
//
// Threads: one, as BackupDevice says.

import DiskIO

open class FolderDevice: BackupDevice, @unchecked Sendable {
    // @unchecked: used by one thread at a time (BackupDevice).
    let folderPath: String
    private(set) var root: Folder?
    private(set) var work: Folder?
    private var setName = ""
    private var journal: StorageFile?
    private var journalEnd: UInt64 = 0
    private var pending: [UInt8] = []
    private var current: Current?
    private var readFolder: (set: SetOnDevice, folder: Folder)?
    private var lastParent: (path: [UInt8], folder: Folder)?

    private struct Current {
        var file: DiskFile
        var position: UInt64
        var isPlain: Bool
    }

    static let manifestName = Array("MANIFEST".utf8)
    static let identityName = Array("DEVICE".utf8)
    static let journalName = Array("journal".utf8)
    static let reserveName = Array("reserve".utf8)
    static let filesName = Array("files".utf8)
    static let segmentsName = Array("segments".utf8)
    static let tmpName = Array("tmp".utf8)
    static let itemName = Array("tmp/item".utf8)

    public init(name: String, folder: String) {
        folderPath = folder
        super.init(name: name)
    }

    static func workName(_ set: String) -> [UInt8] { Array(".\(set).unfinished".utf8) }

    static func segmentPath(_ number: UInt64) -> [UInt8] {
        let digits = String(number)
        let zeros = String(repeating: "0", count: max(0, 8 - digits.count))
        return segmentsName + Array("/\(zeros)\(digits)".utf8)
    }

    static func filePath(_ source: [UInt8], _ path: [UInt8]) -> [UInt8] {
        filesName + [0x2F] + source + (path.isEmpty ? [] : [0x2F] + path)
    }

    /// Runs a disk operation; its error becomes the device's failure.
    func on<R>(_ body: () throws(IOError) -> R) throws(DeviceFailure) -> R {
        do throws(IOError) {
            return try body()
        } catch {
            throw DeviceFailure(error)
        }
    }

    func opened() throws(DeviceFailure) -> Folder {
        if let root { return root }
        let path = folderPath
        let folder = try on { () throws(IOError) in try Folder(path) }
        root = folder
        return folder
    }

    /// Whether the item can lie under its own name.
    func canBePlain(_ item: ItemToStore) -> Bool { item.isWhole }

    // MARK: - writing

    open override func unfinished(_ setName: String) throws(DeviceFailure) -> UnfinishedSet? {
        let root = try opened()
        let name = Self.workName(setName)
        guard root.exists(name) else { return nil }
        return try on { () throws(IOError) in
            let work = try root.folder(name)
            guard work.exists(Self.journalName) else { return nil }
            guard var found = Journal.decode(try Self.contents(work, Self.journalName)) else {
                return nil
            }
            found.hasManifest = work.exists(Self.manifestName)
            return found.identity.name == setName ? found : nil
        }
    }

    open override func begin(
        _ identity: SetIdentity, deviceID: [UInt8], reserveBytes: UInt64
    ) throws(DeviceFailure) {
        let root = try opened()
        setName = identity.name
        let left = try unfinished(identity.name)
        let name = Self.workName(identity.name)
        let goesOn = left.map { $0.identity == identity && $0.deviceID == deviceID } ?? false
        let isFree = try on { () throws(IOError) -> Bool in
            if !goesOn, root.exists(name) {
                guard try root.folder(name).tryLock() else { return false }
                try root.removeTree(name)
            }
            if !goesOn { try root.createFolder(name, permissions: 0o755) }
            let work = try root.folder(name)
            guard try work.tryLock() else { return false }
            self.work = work
            for part in [Self.filesName, Self.segmentsName, Self.tmpName] {
                try work.createFolders(part, permissions: 0o755)
            }
            return true
        }
        guard isFree else { throw .busy("another run writes the set \(identity.name) there") }
        guard let work else { return }
        try on { () throws(IOError) in
            if goesOn, let left {
                try Self.prune(work, keeping: left.items)
            } else {
                let text =
                    "set \(identity.name)\nset-id \(identity.id.hexText)\n"
                    + "device-id \(deviceID.hexText)\n"
                try Self.write(Array(text.utf8), to: Self.identityName, in: work)
                let head = Journal.head(identity, deviceID: deviceID)
                try Self.write(head, to: Self.journalName, in: work)
            }
            let reserve = try work.file(
                Self.reserveName, OpenOptions(.readWrite, creation: .ifMissing))
            if reserveBytes > 0 { try reserve.allocate(offset: 0, count: reserveBytes) }
            let file = try work.file(Self.journalName, OpenOptions(.readWrite))
            // Behind the valid records; what is torn there is overwritten.
            journalEnd = UInt64(
                Journal.validBytes(try Self.contents(work, Self.journalName)))
            try file.truncate(to: journalEnd)
            journal = file
        }
    }

    open override func start(_ item: ItemToStore) throws(DeviceFailure) {
        guard let work else { throw .broken("\(name): not begun") }
        let isPlain = canBePlain(item)
        let header = isPlain ? 0 : UInt64(item.header.encodedBytes)
        current = try on { () throws(IOError) in
            let file = try work.file(
                Self.itemName, OpenOptions(.readWrite, creation: .ifMissing))
            try file.truncate(to: 0)
            return Current(file: file, position: header, isPlain: isPlain)
        }
    }

    open override func append(_ bytes: UnsafeRawBufferPointer) throws(DeviceFailure) {
        guard let item = current else { return }
        try on { () throws(IOError) in try item.file.write(bytes, at: item.position) }
        current?.position += UInt64(bytes.count)
    }

    open override func skip(_ count: UInt64) throws(DeviceFailure) { current?.position += count }

    open override func drop() throws(DeviceFailure) {
        // Its room may be needed at once.
        try? current?.file.truncate(to: 0)
        current = nil
    }

    open override func finish(_ item: ItemToStore) throws(DeviceFailure) -> UInt64 {
        guard let work, let written = current else { throw .broken("\(name): no item begun") }
        current = nil
        defer { written.file.close() }
        return try on { () throws(IOError) in
            // A hole at the end.
            if try written.file.size() < written.position {
                try written.file.truncate(to: written.position)
            }
            if written.isPlain, try becomesPlain(item, work) {
                remember(item, place: 0)
                return 0
            }
            if written.isPlain { try Self.insertHeader(item.header, before: written.file) }
            try Self.write(item.header.encoded(), to: written.file, at: 0)
            try work.rename(
                Self.itemName, to: Self.segmentPath(item.header.position), in: work)
            remember(item, place: item.header.position + 1)
            return item.header.position + 1
        }
    }

    private func remember(_ item: ItemToStore, place: UInt64) {
        guard let remembered = item.remembered(place: place) else { return }
        pending += Journal.item(remembered)
    }

    /// Gives the item its own name; false where this file system cannot, or has that name already
    /// (names that differ only in case are one there).
    private func becomesPlain(_ item: ItemToStore, _ work: Folder) throws(IOError) -> Bool {
        let target = Self.filePath(item.header.source, item.header.path)
        do throws(IOError) {
            let slash = target.lastIndex(of: 0x2F) ?? 0
            let parentPath = Array(target[..<slash])
            if lastParent?.path != parentPath {
                try Self.createFolders(parentPath, in: work)
                lastParent = (parentPath, try work.folder(parentPath))
            }
            guard let parent = lastParent?.folder else { return false }
            let name = Array(target[(slash + 1)...])
            if parent.exists(name) { return false }
            if let row = item.metadata { Self.decorate(work, row, item.attributes) }
            try work.rename(Self.itemName, to: name, in: parent)
            return true
        } catch {
            if case .item = DeviceFailure(error) { return false }
            throw error
        }
    }

    open override func sync() throws(DeviceFailure) {
        guard let work, let journal, !pending.isEmpty else { return }
        try on { () throws(IOError) in
            try work.syncFileSystem()
            try Self.write(pending, to: journal, at: journalEnd)
            try journal.sync()
        }
        journalEnd += UInt64(pending.count)
        pending.removeAll(keepingCapacity: true)
    }

    open override func discard(_ item: RememberedItem) throws(DeviceFailure) {
        guard let work else { return }
        let path =
            item.place == 0
            ? Self.filePath(item.source, item.path) : Self.segmentPath(item.place - 1)
        try on { () throws(IOError) in
            do throws(IOError) { try work.remove(path) } catch  where error.isMissing {}
        }
        pending += Journal.item(item, isTakenBack: true)
    }

    open override func writeManifest(
        _ encode: ((UnsafeRawBufferPointer) throws -> Void) throws -> Void
    ) throws(DeviceFailure) {
        guard let work else { throw .broken("\(name): not begun") }
        try sync()
        let temporary = Array("MANIFEST.tmp".utf8)
        do {
            if work.exists(Self.reserveName) { try work.remove(Self.reserveName) }
            let file = try work.file(
                temporary, OpenOptions(.readWrite, creation: .ifMissing), permissions: 0o644)
            defer { file.close() }
            try file.truncate(to: 0)
            var position: UInt64 = 0
            try encode { bytes in
                try file.write(bytes, at: position)
                position += UInt64(bytes.count)
            }
            try file.sync()
            try work.rename(temporary, to: Self.manifestName, in: work)
            try work.syncFileSystem()
        } catch let error as IOError {
            throw DeviceFailure(error)
        } catch {
            throw .broken("\(error)")
        }
    }

    open override func commit() throws(DeviceFailure) {
        guard let work, let root else { throw .broken("\(name): not begun") }
        let target = Array(setName.utf8)
        try on { () throws(IOError) in
            try? work.removeTree(Self.tmpName)
            for empty in [Self.filesName, Self.segmentsName] { try? work.removeFolder(empty) }
            guard !root.exists(target) else { throw IOError(.rename, work.path, 17) }
            try root.rename(Self.workName(setName), to: target, in: root)
            try root.sync()
            try? work.remove(Self.journalName)
        }
        close()
    }

    open override func commitLeft(_ setName: String) throws(DeviceFailure) {
        let root = try opened()
        self.setName = setName
        let isFree = try on { () throws(IOError) -> Bool in
            let work = try root.folder(Self.workName(setName))
            self.work = work
            return try work.tryLock()
        }
        guard isFree else { throw .busy("another run writes the set \(setName) there") }
        try commit()
    }

    open override func suspend() { close() }

    func close() {
        current = nil
        journal = nil
        lastParent = nil
        work = nil
    }

    open override func abandon() throws(DeviceFailure) {
        close()
        guard let root else { return }
        let name = Self.workName(setName)
        try on { () throws(IOError) in try root.removeTree(name) }
    }

    open override func freeBytes() throws(DeviceFailure) -> UInt64? {
        let root = try opened()
        return try on { () throws(IOError) in try root.freeBytes() }
    }

    open override func timing() throws(DeviceFailure) -> DeviceTiming? { try measuredTiming() }

    // MARK: - reading (FolderDevice+Read.swift)

    open override func sets() throws(DeviceFailure) -> [SetOnDevice] { try foundSets() }

    open override func manifest(of set: SetOnDevice) throws(DeviceFailure) -> [UInt8] {
        let folder = try setFolder(set)
        return try on { () throws(IOError) in try Self.contents(folder, Self.manifestName) }
    }

    open override func read(
        _ item: StoredItem, source: [UInt8], path: [UInt8], of set: SetOnDevice,
        header: (SegmentHeader?) -> Void, _ body: (ItemPiece) throws -> Void
    ) throws {
        let folder: Folder
        if let readFolder, readFolder.set == set {
            folder = readFolder.folder
        } else {
            folder = try setFolder(set)
            readFolder = (set, folder)
        }
        try readItem(item, source, path, folder, header, body)
    }

    open override func remove(_ set: SetOnDevice) throws(DeviceFailure) {
        let root = try opened()
        readFolder = nil
        // Out of sight first: a set is never half there.
        let hidden = Array(".\(set.name).forgotten".utf8)
        let folder = try setFolder(set)
        guard try on({ () throws(IOError) in try folder.tryLock() }) else {
            throw .busy("a run writes the set \(set.name) there")
        }
        try on { () throws(IOError) in
            try root.removeTree(hidden)
            try root.rename(Array(set.location.utf8), to: hidden, in: root)
            try root.sync()
            try root.removeTree(hidden)
        }
    }
}
