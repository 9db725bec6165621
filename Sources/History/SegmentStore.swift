// The joint between history and where it lies: a folder today; a log server and object storage
// later. Nothing here speaks of paths, descriptors or one machine. Every implementation passes the
// shared cases in Tests/SegmentStoreSuite.

import DiskIO
import LogFormat

/// Why a store could not do something.
public struct StoreError: Error, Hashable, Sendable {
    public enum Operation: String, Sendable {
        case list, read, put, delete, setAside = "set aside"
    }
    public enum Cause: Hashable, Sendable {
        /// There is no segment of that name.
        case missing
        /// There is a segment of that name already; it was left as it is.
        case exists
        /// The segment ends before the range that was asked for.
        case short
        case io(IOError)
        /// A remote store did not answer, or not in time.
        case unreachable(String)
        /// A remote store refused who asked.
        case refused(String)
        /// What is there is not what it should be: bytes were changed, or it was exchanged.
        case damaged(SegmentError)
        /// It is sealed with another key.
        case otherKey(SealingKeyID)
        /// It is sealed, and no key was given.
        case needsKey
    }
    public var operation: Operation
    /// The segment's name, or the store where the operation concerns all of it.
    public var object: String
    public var cause: Cause

    public init(_ operation: Operation, _ object: String, _ cause: Cause) {
        self.operation = operation
        self.object = object
        self.cause = cause
    }

    /// A container could not be opened.
    init(_ operation: Operation, _ name: SegmentName, _ error: SealedError) {
        if case .otherKey(let id) = error {
            self.init(operation, "\(name)", .otherKey(id))
        } else {
            self.init(operation, "\(name)", .damaged(.sealed(error)))
        }
    }

    /// Whether the failure tells of one segment only, not of the store. Other segments may well
    /// open with the key that does not fit this one.
    var isOfOneSegment: Bool {
        switch cause {
        case .missing, .exists, .short, .io, .damaged, .otherKey: true
        case .unreachable, .refused, .needsKey: false
        }
    }

    /// Whether it is sealed with another key than the one that was given.
    public var isOfOtherKey: Bool {
        if case .otherKey = cause { true } else { false }
    }

    /// Whether the store has no room.
    public var isNoSpace: Bool {
        if case .io(let error) = cause { error.isNoSpace } else { false }
    }
}

extension StoreError: CustomStringConvertible {
    public var description: String {
        let why =
            switch cause {
            case .missing: "there is none"
            case .exists: "there is one already"
            case .short: "it is shorter than it should be"
            case .io(let error): error.description
            case .unreachable(let text): "not reachable: \(text)"
            case .refused(let text): "refused: \(text)"
            case .damaged(let error): error.description
            case .otherKey(let id): "it is sealed with another key, \(id)"
            case .needsKey: "it is sealed, and no key was given"
            }
        return "cannot \(operation.rawValue) \(object) (\(why))"
    }
}

/// A segment as a listing shows it.
public struct StoredSegment: Hashable, Sendable {
    public var name: SegmentName
    public var byteCount: UInt64

    public init(name: SegmentName, byteCount: UInt64) {
        self.name = name
        self.byteCount = byteCount
    }
}

/// A place that keeps immutable segments by name. Any thread may call at any time. Calls block
/// (on a disk or a network); never make them on a cooperative thread or on the way of a write.
public protocol SegmentStore: AnyObject, Sendable {
    /// What is in messages: a folder, a URL.
    var label: String { get }

    /// All complete segments, sorted by name. Unfinished uploads and foreign names never show.
    func list() throws(StoreError) -> [StoredSegment]

    /// Fills `target` with the bytes at `offset`; `.short` where the segment ends before.
    func read(
        _ name: SegmentName, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(StoreError)

    /// Says what will be read soon, in this order: a store far away fetches it meanwhile. Returns
    /// at once; nothing need be read, and anything else may be.
    func expect(_ ranges: [SegmentRange])

    /// Begins a segment; nothing shows until its `commit`.
    func upload() throws(StoreError) -> any SegmentUpload

    /// Removes a segment durably; `.missing` where there is none.
    func delete(_ name: SegmentName) throws(StoreError)
}

extension SegmentStore {
    /// Nearby stores have nothing to gain.
    public func expect(_ ranges: [SegmentRange]) {}
}

/// Bytes of a segment.
public struct SegmentRange: Hashable, Sendable {
    public var name: SegmentName
    public var offset: UInt64
    public var byteCount: UInt64

    public init(name: SegmentName, offset: UInt64, byteCount: UInt64) {
        self.name = name
        self.offset = offset
        self.byteCount = byteCount
    }

    public var end: UInt64 { offset + byteCount }
}

/// One segment on its way into a store. One thread. Given up when dropped without `commit`.
public protocol SegmentUpload: AnyObject {
    /// Appends bytes; borrowed for the call.
    func append(_ bytes: UnsafeRawBufferPointer) throws(StoreError)

    /// Makes what was appended the segment `name`: durable and visible when this returns, wholly
    /// absent when it throws. Never replaces: `.exists` where there is one of that name.
    func commit(as name: SegmentName) throws(StoreError)

    /// Gives up and leaves nothing. Idempotent; without effect after `commit`.
    func abort()
}
