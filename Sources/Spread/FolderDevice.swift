// A folder of a file system as a backup device: a mounted disk, flash, a RAM disk, a network mount.
//
//   DEVICE/SET/MANIFEST              what the whole set holds, and where (ManifestEncoder)
//   DEVICE/SET/DEVICE                text: the ids of the set and of this device in it
//   DEVICE/SET/files/SOURCE/PATH     whole files under their own names
//   DEVICE/SET/segments/00000017     a part of a file behind its header (SegmentHeader), or a whole
//                                    file that this file system cannot name
//
// While it is written the set is DEVICE/.SET.unfinished, with a journal and a file that keeps room
// for the manifest. Items are written where they stay. One rename makes the set visible.
//
//   crash …                     found by the next run
//   before the first sync       an empty journal or none: begun anew
//   between two syncs           the journal's items; everything else is removed
//   after writeManifest         hasManifest: only the rename is missing
//
// Durable in this order: items (syncfs), then the journal's records of these items, then the
// manifest, then the rename. The disk is kept busy meanwhile: what is written of a large file is
// handed to it piece by piece, and `beginSync` leaves items and journal to another thread
// (FolderSync), so that a sync in the middle holds up nobody.
//
// Threads: one, as BackupDevice says; and that of a sync under way, which touches nothing else.

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
    private var syncing: FolderSync?

    private struct Current {
        var file: DiskFile
        /// Below the unfinished set.
        var path: [UInt8]
        /// nil: under its own name; else its segment's.
        var number: UInt64?
        var position: UInt64
        /// Up to where something is written, and up to where the disk has been told to begin.
        var end: UInt64 = 0
        var handedOver: UInt64 = 0
    }
    private static let handOverBytes: UInt64 = 8 << 20

    static let manifestName = Array("MANIFEST".utf8)
    static let identityName = Array("DEVICE".utf8)
    static let journalName = Array("journal".utf8)
    static let reserveName = Array("reserve".utf8)
    static let filesName = Array("files".utf8)
    static let segmentsName = Array("segments".utf8)

    public init(name: String, folder: String) {
        folderPath = folder
        super.init(name: name)
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
            for part in [Self.filesName, Self.segmentsName] {
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
        let plain = canBePlain(item)
        current = try on { () throws(IOError) in
            if plain, let current = try Self.plainFile(item, work) { return current }
            let number = item.header.position
            let path = Self.segmentPath(number)
            let file = try work.file(path, OpenOptions(.readWrite, creation: .ifMissing))
            try file.truncate(to: 0)
            return Current(
                file: file, path: path, number: number,
                position: UInt64(item.header.encodedBytes))
        }
    }

    /// A new file under the item's own name; nil where this file system cannot have it, or has that
    /// name already (names that differ only in case are one there).
    private static func plainFile(
        _ item: ItemToStore, _ work: Folder
    ) throws(IOError) -> Current? {
        let path = filePath(item.header.source, item.header.path)
        let permissions = (item.metadata?.mode ?? 0o600) & 0o777
        let options = OpenOptions(.readWrite, creation: .exclusively)
        do throws(IOError) {
            let file: DiskFile
            do throws(IOError) {
                file = try work.file(path, options, permissions: permissions)
            } catch  where error.isMissing {
                try createFolders(Array(path[..<(path.lastIndex(of: 0x2F) ?? 0)]), in: work)
                file = try work.file(path, options, permissions: permissions)
            }
            return Current(file: file, path: path, number: nil, position: 0)
        } catch {
            // EEXIST, ENOTDIR, EISDIR: something else has the name, or that of a folder above it.
            if [17, 20, 21].contains(error.code) { return nil }
            if case .item = DeviceFailure(error) { return nil }
            throw error
        }
    }

    open override func append(_ bytes: UnsafeRawBufferPointer) throws(DeviceFailure) {
        guard let item = current else { return }
        try on { () throws(IOError) in try item.file.write(bytes, at: item.position) }
        let end = item.position + UInt64(bytes.count)
        current?.position = end
        current?.end = end
        if end - item.handedOver >= Self.handOverBytes {
            item.file.startWriteBack(offset: item.handedOver, count: end - item.handedOver)
            current?.handedOver = end
        }
    }

    open override func skip(_ count: UInt64) throws(DeviceFailure) { current?.position += count }

    open override func drop() throws(DeviceFailure) {
        guard let item = current else { return }
        current = nil
        item.file.close()
        try? work?.remove(item.path)
    }

    open override func finish(_ item: ItemToStore) throws(DeviceFailure) -> UInt64 {
        guard let written = current else { throw .broken("\(name): no item begun") }
        current = nil
        defer { written.file.close() }
        return try on { () throws(IOError) in
            // A hole at the end.
            if written.end < written.position { try written.file.truncate(to: written.position) }
            let place: UInt64
            if let number = written.number {
                try Self.write(item.header.encoded(), to: written.file, at: 0)
                place = number + 1
            } else {
                if let row = item.metadata {
                    Self.decorate(written.file, row, item.attributes)
                }
                place = 0
            }
            if written.handedOver > 0 {
                written.file.startWriteBack(
                    offset: written.handedOver, count: written.end - written.handedOver)
            }
            remember(item, place: place)
            return place
        }
    }

    private func remember(_ item: ItemToStore, place: UInt64) {
        guard let remembered = item.remembered(place: place) else { return }
        pending += Journal.item(remembered)
    }

    open override func beginSync() throws(DeviceFailure) {
        if let syncing {
            guard syncing.hasEnded else { return }
            try endSync()
        }
        guard let work, let journal, !pending.isEmpty else { return }
        syncing = FolderSync(work, journal, pending, at: journalEnd)
        journalEnd += UInt64(pending.count)
        pending = []
    }

    open override func sync() throws(DeviceFailure) {
        try endSync()
        try beginSync()
        try endSync()
    }

    /// Waits for the sync under way; its error is the device's.
    private func endSync() throws(DeviceFailure) {
        guard let syncing else { return }
        self.syncing = nil
        try on { () throws(IOError) in try syncing.wait() }
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
        // One under way ends by itself, as it may hang where the device has gone; until then the
        // set is locked.
        syncing = nil
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
