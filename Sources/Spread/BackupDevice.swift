// The joint between the executor and the things that take backups: a mounted disk, a tape, an
// optical image, a log server. One class with overridden verbs for each (docs/adr/0001 says why no
// protocol).
//
// Writing a set:  begin ─► (start ─► append | skip … ─► finish | drop) … ─► beginSync … ─► sync ─►
//                 writeManifest ─► commit. Until `commit` returns nothing of the set is visible;
// `unfinished` tells after a crash what had been synced. All of it on one thread, the device's own.
//
// Reading: `sets` and `read`, on any one thread at a time, on another object than one that writes.

import DiskIO

/// Why a device did not do it, by what is to be done now.
public enum DeviceFailure: Error, Sendable, Hashable {
    /// No room. What it holds is good; it takes nothing more.
    case full(String)
    /// Somebody else uses it; asked again for a while, then taken as offline.
    case busy(String)
    /// It is not there, or does not answer. What it holds cannot be had.
    case offline(String)
    /// It can be read, not written.
    case readOnly(String)
    /// It does not let us in: a token or certificate is not good. Only the user can help.
    case denied(String)
    /// It is there and gives errors.
    case broken(String)
    /// Only this item cannot be stored as it is; the device is well.
    case item(String)

    /// What the device is, in a word.
    public var word: String {
        switch self {
        case .full: "full"
        case .busy: "busy"
        case .offline: "offline"
        case .readOnly: "read-only"
        case .denied: "denied"
        case .broken: "failed"
        case .item: "refused"
        }
    }

    /// Only the item failed: what else is there can be had and ended.
    var leavesDeviceWell: Bool {
        switch self {
        case .full, .item: true
        case .busy, .offline, .readOnly, .denied, .broken: false
        }
    }

    public var reason: String {
        switch self {
        case .full(let text), .busy(let text), .offline(let text), .readOnly(let text),
            .denied(let text), .broken(let text), .item(let text):
            text
        }
    }

    /// What an error of the system means for the device that it came from.
    public init(_ error: IOError) {
        let text = "\(error)"
        switch error.code {
        case 28, 122: self = .full(text)  // ENOSPC, EDQUOT
        case 16, 26: self = .busy(text)  // EBUSY, ETXTBSY
        case 30: self = .readOnly(text)  // EROFS
        // ENOENT, ENXIO, ENODEV, ENOTCONN, ETIMEDOUT, EHOSTDOWN, EHOSTUNREACH, ESTALE, ENOMEDIUM,
        // ESHUTDOWN: the file system, its disk or its server has gone.
        case 2, 6, 19, 107, 108, 110, 112, 113, 116, 123: self = .offline(text)
        // EINVAL, ENAMETOOLONG, EILSEQ, EFBIG: what this file system cannot name or hold.
        case 22, 36, 84, 27: self = .item(text)
        default: self = .broken(text)
        }
    }
}

/// An item on its way to a device.
public struct ItemToStore: Sendable {
    public var header: SegmentHeader
    /// Row of the source and its path; the item's file.
    public var source: Int
    public var row: Int
    /// What a whole file gets besides its content where the device can; nil for segments.
    public var metadata: TreeRow?
    public var attributes: [TreeExtra.Attribute] = []
    /// The content's stamp, for going on after an interruption.
    public var stamp: FileStamp

    public var isWhole: Bool { header.offset == 0 && header.size == header.total }

    /// What a journal keeps of it, now that the header has the digest; nil without.
    public func remembered(place: UInt64) -> RememberedItem? {
        guard let digest = header.digest.flatMap({ ContentDigest($0) }) else { return nil }
        return RememberedItem(
            source: header.source, path: header.path, offset: header.offset, size: header.size,
            stamp: stamp, digest: digest, place: place)
    }
}

/// What an interrupted run had stored durably.
public struct RememberedItem: Sendable, Hashable {
    public var source: [UInt8]
    public var path: [UInt8]
    public var offset: UInt64
    public var size: UInt64
    public var stamp: FileStamp
    public var digest: ContentDigest
    public var place: UInt64

    public init(
        source: [UInt8], path: [UInt8], offset: UInt64, size: UInt64, stamp: FileStamp,
        digest: ContentDigest, place: UInt64
    ) {
        (self.source, self.path) = (source, path)
        (self.offset, self.size, self.stamp) = (offset, size, stamp)
        (self.digest, self.place) = (digest, place)
    }
}

/// A set as one device shows it.
public struct SetOnDevice: Sendable, Hashable {
    public enum State: String, Sendable {
        case complete
        /// Never became complete, or is being written.
        case unfinished
        /// Its manifest is lost or damaged.
        case damaged
    }
    public var name: String
    public var state: State
    /// Where the driver finds it again.
    public var location: String
    /// What the set calls itself and this device; nil where that is lost.
    public var setID: [UInt8]?
    public var deviceID: [UInt8]?

    public init(
        name: String, state: State, location: String, setID: [UInt8]?, deviceID: [UInt8]?
    ) {
        (self.name, self.state, self.location) = (name, state, location)
        (self.setID, self.deviceID) = (setID, deviceID)
    }
}

/// Bytes of an item as they are read back.
public enum ItemPiece {
    case bytes(UnsafeRawBufferPointer)
    /// So many zeros.
    case hole(UInt64)
}

/// A backup device. See the head of this file for who may call what when.
open class BackupDevice: @unchecked Sendable {
    // @unchecked: subclasses are used by one thread at a time; `name` does not change.
    /// As on the command line.
    public let name: String

    public init(name: String) { self.name = name }

    private var unsupported: DeviceFailure { .broken("\(name): not possible on this device") }

    // MARK: writing

    /// Makes ready to take items of the set; `deviceID` is what the set calls this device. What an
    /// interrupted run left here of another set with this name goes.
    open func begin(
        _ identity: SetIdentity, deviceID: [UInt8], reserveBytes: UInt64
    ) throws(DeviceFailure) {
        throw unsupported
    }
    /// What an interrupted run of a set with this name left here; nil where none did. Before
    /// `begin`.
    open func unfinished(_ setName: String) throws(DeviceFailure) -> UnfinishedSet? { nil }

    /// Begins an item. Its number, `header.position`, is the item's alone.
    open func start(_ item: ItemToStore) throws(DeviceFailure) { throw unsupported }
    /// The next bytes of the item.
    open func append(_ bytes: UnsafeRawBufferPointer) throws(DeviceFailure) { throw unsupported }
    /// The next bytes of the item are so many zeros.
    open func skip(_ count: UInt64) throws(DeviceFailure) { throw unsupported }
    /// Ends the item, whose header now has the digest; where it is.
    open func finish(_ item: ItemToStore) throws(DeviceFailure) -> UInt64 { throw unsupported }
    /// Forgets the item that was begun.
    open func drop() throws(DeviceFailure) {}
    /// Begins to make durable what is finished, without waiting where the device can do that beside
    /// other work. What goes wrong shows at a later call of this or of `sync`.
    open func beginSync() throws(DeviceFailure) { try sync() }
    /// Everything finished is durable, and `unfinished` would tell of it.
    open func sync() throws(DeviceFailure) { throw unsupported }
    /// Takes an item back that was finished before.
    open func discard(_ item: RememberedItem) throws(DeviceFailure) {}
    /// Writes the manifest, in pieces given to the closure that `encode` gets.
    open func writeManifest(
        _ encode: ((UnsafeRawBufferPointer) throws -> Void) throws -> Void
    ) throws(DeviceFailure) {
        throw unsupported
    }
    /// The set becomes visible here.
    open func commit() throws(DeviceFailure) { throw unsupported }
    /// Makes a set visible whose manifest an interrupted run had written: then nothing else is
    /// missing.
    open func commitLeft(_ setName: String) throws(DeviceFailure) { throw unsupported }
    /// Lets go, with everything kept for a later run to go on.
    open func suspend() {}
    /// Removes what was written of a set that is not complete.
    open func abandon() throws(DeviceFailure) {}
    /// Bytes that it can still take; nil where that is not known.
    open func freeBytes() throws(DeviceFailure) -> UInt64? { nil }
    /// How fast it takes small and large files, tried out and removed again; nil where that cannot
    /// be tried. Before `begin`.
    open func timing() throws(DeviceFailure) -> DeviceTiming? { nil }

    // MARK: reading

    /// The sets that are there.
    open func sets() throws(DeviceFailure) -> [SetOnDevice] { throw unsupported }
    /// The manifest's bytes.
    open func manifest(of set: SetOnDevice) throws(DeviceFailure) -> [UInt8] { throw unsupported }
    /// Gives the bytes of an item in order. `path` is that of the item's file. For a segment the
    /// header is checked by the caller: it is given first. Ends early where the body returns false.
    open func read(
        _ item: StoredItem, source: [UInt8], path: [UInt8], of set: SetOnDevice,
        header: (SegmentHeader?) -> Void, _ body: (ItemPiece) throws -> Void
    ) throws -> Void { throw unsupported }
    /// Removes a set.
    open func remove(_ set: SetOnDevice) throws(DeviceFailure) { throw unsupported }
}

/// What an interrupted run left on a device.
public struct UnfinishedSet: Sendable {
    public var identity: SetIdentity
    public var deviceID: [UInt8]
    public var items: [RememberedItem]
    /// The manifest is written: only `commit` is missing.
    public var hasManifest: Bool

    public init(
        identity: SetIdentity, deviceID: [UInt8], items: [RememberedItem], hasManifest: Bool
    ) {
        (self.identity, self.deviceID) = (identity, deviceID)
        (self.items, self.hasManifest) = (items, hasManifest)
    }
}
