// The bytes of one data object on their way: small ones in one put, larger ones in parts, several
// at once. Memory is bounded by the parts that are under way. What becomes of the object is not
// known here: without an entry of the chain it is nothing.
//
//   add(part) ──► begin (when there is room: otherwise wait for the oldest) ──► … ──► finish
//
// An upload in parts that was cut goes on: its key is the same for the same bytes, so the store is
// asked which parts it has; one is used again when size and MD5 are those of ours. (The tag alone
// proves nothing; that a store lists another part under the key of these bytes is what it guards
// against.) Keys are never used for other bytes, so completing twice does no harm.
//
// One thread.

import Crypto
import Foundation
import History
import NIOCore
import ServerAPI
import Shipping

/// Sends one object.
final class DataUpload {
    /// Tells of bytes before they go; may wait or throw.
    typealias Pace = (Int) throws(ShipError) -> Void

    /// What stays the same.
    struct Place {
        var key: String
        /// Goes with the object, and is compared when it is there already.
        var tag: String
        /// Whether bytes are paced and counted by who sends.
        var isPaced = false
        /// Parts from an earlier life may be there.
        var mayResume = false
    }

    private struct Flying {
        var number: Int
        var started: ObjectClient.Started
    }

    private let client: ObjectClient
    private(set) var place: Place
    private var uploadID: String?
    private var known: [Int: ListedPart] = [:]
    private var flying: [Flying] = []
    private var done: [(number: Int, tag: String)] = []
    private var nextNumber = 1
    private var byteCount: UInt64 = 0
    private static let tagName = "logdisk-tag"
    private static let hashName = "logdisk-sha256"

    init(_ client: ObjectClient, _ place: Place) {
        self.client = client
        self.place = place
    }

    deinit { for one in flying { one.started.pending.cancel() } }

    var isInParts: Bool { uploadID != nil }

    // MARK: - in one put

    /// A put of all bytes that is under way.
    struct Whole {
        fileprivate var started: ObjectClient.Started
        fileprivate var body: ByteBuffer
        /// What may not go yet.
        fileprivate var rest: ByteBuffer
        fileprivate var sha256: String

        /// Whether all bytes may go.
        var isFed: Bool { rest.readableBytes == 0 }
        /// Whether the answer is there, or the failure.
        var isAnswered: Bool { started.pending.isAnswered }

        func cancel() { started.pending.cancel() }

        /// Lets the next bytes go.
        mutating func feed(_ pace: Pace) throws(ShipError) {
            let count = min(rest.readableBytes, ObjectTransport.pieceBytes)
            try pace(count)
            guard let feed = started.pending.feed else { return }
            if let piece = rest.readSlice(length: count) { feed.add(piece) }
            if isFed { feed.end() }
        }
    }

    /// Begins to put all of it at once; nothing goes before it is fed.
    func begin(_ body: ByteBuffer, sha256: String) -> Whole {
        let request = client.putRequest(place.key, body, options(sha256, isCreateOnly: true))
        let started = client.begin(request, isFed: true)
        if body.readableBytes == 0 { started.pending.feed?.end() }
        return Whole(started: started, body: body, rest: body, sha256: sha256)
    }

    private func options(_ sha256: String, isCreateOnly: Bool) -> ObjectClient.PutOptions {
        var options = ObjectClient.PutOptions()
        options.isCreateOnly = isCreateOnly
        options.metadata = [(Self.tagName, place.tag), (Self.hashName, sha256)]
        options.hash = sha256
        options.isPaced = place.isPaced
        return options
    }

    /// Waits for a put that was begun and fed; when it returns, an object of these bytes is there.
    func finish(_ whole: Whole) throws(ShipError) {
        let (body, sha256) = (whole.body, whole.sha256)
        var outcome = try client.outcome(ofPut: client.settle(whole.started))
        while true {
            if outcome == .unsupported {
                // Keys are for these bytes only: without the condition nothing is lost.
                let request = client.putRequest(
                    place.key, body, options(sha256, isCreateOnly: false))
                outcome = try client.outcome(ofPut: client.call(request))
            }
            if outcome == .made { return }
            if try isThere(UInt64(body.readableBytes), sha256: sha256) { return }
            rename()
            outcome = try client.outcome(
                ofPut: client.call(
                    client.putRequest(place.key, body, options(sha256, isCreateOnly: true))))
        }
    }

    private func begin(
        _ request: ObjectClient.Request, _ pace: Pace
    ) throws(ShipError) -> ObjectClient.Started {
        let started = client.begin(request, isFed: true)
        guard let feed = started.pending.feed, var rest = request.body else { return started }
        do throws(ShipError) {
            while rest.readableBytes > 0 {
                let count = min(rest.readableBytes, ObjectTransport.pieceBytes)
                try pace(count)
                if let piece = rest.readSlice(length: count) { feed.add(piece) }
            }
        } catch {
            started.pending.cancel()
            throw error
        }
        feed.end()
        return started
    }

    /// Something lies at the key that is not ours: another key, then.
    private func rename() {
        place.key += "-" + String(UInt64.random(in: .min ... .max), radix: 16)
    }

    /// Whether what lies at the key is what we send.
    private func isThere(_ count: UInt64, sha256: String?) throws(ShipError) -> Bool {
        guard let info = try client.head(place.key), info.byteCount == count else { return false }
        if let sha256, let theirs = info.metadata[Self.hashName] { return theirs == sha256 }
        if let theirs = info.metadata[Self.tagName] { return theirs == place.tag }
        guard let sha256, count <= 64 << 20, let bytes = try client.get(place.key) else {
            return false
        }
        return ObjectClient.hash(ByteBuffer(bytes: bytes)) == sha256
    }

    // MARK: - in parts

    /// The next part; all but the last are of a size that the store takes.
    func add(_ part: ByteBuffer, _ pace: Pace) throws(ShipError) {
        let id = try upload()
        let number = nextNumber
        nextNumber += 1
        byteCount += UInt64(part.readableBytes)
        if let there = known[number], Self.isSame(there, part) {
            done.append((number, there.tag))
            return
        }
        while flying.count >= client.access.connections { try land() }
        let request = client.partRequest(
            place.key, id, number: number, part, isPaced: place.isPaced)
        flying.append(Flying(number: number, started: try begin(request, pace)))
    }

    private func upload() throws(ShipError) -> String {
        if let uploadID { return uploadID }
        if place.mayResume, let found = try resumed() { return found }
        let id = try client.createUpload(place.key, metadata: [(Self.tagName, place.tag)])
        uploadID = id
        return id
    }

    /// An upload of this key that did not end; what cannot be found out is sent anew.
    private func resumed() throws(ShipError) -> String? {
        do throws(ShipError) {
            for upload in try client.uploads(place.key) where upload.key == place.key {
                guard let parts = try client.parts(place.key, upload.id) else { continue }
                known = Dictionary(parts.map { ($0.number, $0) }) { first, _ in first }
                uploadID = upload.id
                return upload.id
            }
        } catch {
            switch error {
            case .stopped, .unreachable, .busy: throw error
            default: return nil
            }
        }
        return nil
    }

    private static func isSame(_ there: ListedPart, _ part: ByteBuffer) -> Bool {
        guard there.byteCount == part.readableBytes else { return false }
        let digest = part.withUnsafeReadableBytes { bytes in
            var hash = Insecure.MD5()
            hash.update(bufferPointer: bytes)
            return Signer.hexadecimal(hash.finalize())
        }
        return there.tag.lowercased().filter { $0 != "\"" } == digest
    }

    /// Waits for the oldest part under way.
    private func land() throws(ShipError) {
        let one = flying.removeFirst()
        done.append((one.number, try client.tag(ofPart: client.settle(one.started))))
    }

    /// Makes the object of the parts; when it returns, it is there.
    func complete() throws(ShipError) {
        guard let uploadID else { preconditionFailure("nothing was added") }
        while !flying.isEmpty { try land() }
        let parts = done.sorted { $0.number < $1.number }
        var isMade = false
        do throws(ShipError) {
            var outcome = try client.complete(
                place.key, uploadID, parts, byteCount: byteCount, isCreateOnly: true)
            if outcome == .unsupported {
                outcome = try client.complete(
                    place.key, uploadID, parts, byteCount: byteCount, isCreateOnly: false)
            }
            isMade = outcome == .made
        } catch {
            // It may have happened.
            switch error {
            case .unreachable, .busy:
                guard (try? isThere(byteCount, sha256: nil)) == true else { throw error }
            default: throw error
            }
        }
        // Also what was made is looked at: it took its time, and an entry will name it.
        var isThere = try isThere(byteCount, sha256: nil)
        if !isThere, isMade { isThere = try hasNoMetadata() }
        guard isThere else {
            throw .unreachable("\(client.place) did not make \(place.key) of its parts")
        }
        self.uploadID = nil
    }

    /// A store that does not keep what goes with an object.
    private func hasNoMetadata() throws(ShipError) -> Bool {
        guard let info = try client.head(place.key) else { return false }
        return info.byteCount == byteCount && info.metadata.isEmpty
    }

    /// Gives up; with `keepingParts` for the next time.
    func abandon(keepingParts: Bool) {
        for one in flying { one.started.pending.cancel() }
        flying = []
        guard !keepingParts, let id = uploadID else { return }
        uploadID = nil
        try? client.abort(place.key, id)  // swept some day otherwise
    }
}
