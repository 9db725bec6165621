// Plain objects below a prefix, for what is no volume: backup sets (Offsite/ObjectDevice.swift).
// What an object is for, and in which order things are made, its owner knows; here is only how its
// bytes go there and come back. Names are ours: no user's text is in them.
//
// Threads: any that may block.

import Foundation
import NIOCore
import ServerAPI
import Shipping

/// The objects below the prefix of a client's URL.
public struct ObjectFolder: Sendable {
    public let client: ObjectClient

    public init(_ client: ObjectClient) { self.client = client }

    /// Bytes that go in one request; what is longer goes in parts.
    public var partBytes: Int { client.access.partBytes }

    /// An object's name below the prefix, with its size.
    public struct Entry: Hashable, Sendable {
        public var name: String
        public var byteCount: UInt64
    }

    /// Those whose names begin with `prefix`, in order.
    public func list(_ prefix: String) throws(ShipError) -> [Entry] {
        let all = client.url.key("")
        return try client.list(client.url.key(prefix)).objects.map {
            Entry(name: String($0.key.dropFirst(all.count)), byteCount: $0.byteCount)
        }
    }

    /// A whole object; nil where there is none.
    public func get(_ name: String) throws(ShipError) -> [UInt8]? {
        try client.get(client.url.key(name))
    }

    /// Fills the front of `target`, which is not empty, with what there is at `offset`; fewer
    /// bytes, or none, at the end. `.rejected(.missing)` where there is no such object.
    public func read(
        _ name: String, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(ShipError) -> Int {
        try client.get(client.url.key(name), into: target, at: offset)
    }

    public func size(_ name: String) throws(ShipError) -> UInt64? {
        try client.head(client.url.key(name))?.byteCount
    }

    /// Puts it whole, in place of what is there.
    public func put(_ name: String, _ bytes: [UInt8]) throws(ShipError) {
        let outcome = try client.put(client.url.key(name), bytes, ObjectClient.PutOptions())
        guard outcome == .made else {
            throw .unreachable("\(client.place) did not take \(name)")
        }
    }

    /// What is not there is gone; `.refused` where the store does not let it go.
    public func remove(_ name: String) throws(ShipError) {
        if case .kept(let reason) = try client.delete(client.url.key(name)) {
            throw .refused("\(client.place) does not delete \(name) (\(reason))")
        }
    }

    /// Begins an object of which the first bytes come last.
    public func upload(_ name: String) -> ObjectFileUpload {
        ObjectFileUpload(client, client.url.key(name))
    }
}

/// An object on its way, of parts that are sent as they come: the first one, which may hold what is
/// known at the end only, last. Nothing is there before `finish`. One thread.
public final class ObjectFileUpload {
    private let client: ObjectClient
    private let key: String
    private var uploadID: String?
    private var flying: [(number: Int, started: ObjectClient.Started)] = []
    private var done: [(number: Int, tag: String)] = []
    private var byteCount: UInt64 = 0
    /// Part 1 is the last that is sent.
    private var nextNumber = 2
    private static let flyingMax = 4

    init(_ client: ObjectClient, _ key: String) { (self.client, self.key) = (client, key) }

    deinit { for one in flying { one.started.pending.cancel() } }

    /// The next part behind the first; every one but the last has `ObjectFolder.partBytes`, or
    /// more.
    public func add(_ bytes: [UInt8]) throws(ShipError) {
        try send(bytes, number: nextNumber)
        nextNumber += 1
    }

    private func send(_ bytes: [UInt8], number: Int) throws(ShipError) {
        let id: String
        if let uploadID {
            id = uploadID
        } else {
            id = try client.createUpload(key, metadata: [])
            uploadID = id
        }
        while flying.count >= Self.flyingMax { try land() }
        let request = client.partRequest(
            key, id, number: number, ByteBuffer(bytes: bytes), isPaced: false)
        flying.append((number, client.begin(request)))
        byteCount += UInt64(bytes.count)
    }

    private func land() throws(ShipError) {
        let one = flying.removeFirst()
        done.append((one.number, try client.tag(ofPart: client.settle(one.started))))
    }

    /// Makes the object: `first`, and behind it what was added.
    public func finish(first: [UInt8]) throws(ShipError) {
        guard let id = uploadID else {
            let outcome = try client.put(key, first, ObjectClient.PutOptions())
            guard outcome == .made else {
                throw .unreachable("\(client.place) did not take \(key)")
            }
            return
        }
        try send(first, number: 1)
        while !flying.isEmpty { try land() }
        let outcome: PutOutcome
        do throws(ShipError) {
            outcome = try client.complete(
                key, id, done.sorted { $0.number < $1.number }, byteCount: byteCount,
                isCreateOnly: false)
        } catch {
            // It may have happened.
            guard case .unreachable = error, try client.head(key)?.byteCount == byteCount else {
                throw error
            }
            uploadID = nil
            return
        }
        uploadID = nil
        // `.exists` stands for an upload that is not known any more: an earlier try has made it.
        if outcome == .made { return }
        guard try client.head(key)?.byteCount == byteCount else {
            throw .unreachable("\(client.place) did not make \(key) of its parts")
        }
    }

    /// Gives it up; what was sent goes.
    public func abandon() {
        for one in flying { one.started.pending.cancel() }
        flying = []
        // What cannot be given up now the store's own rules end, or the user's.
        if let id = uploadID { try? client.abort(key, id) }
        uploadID = nil
    }
}
