// A segment becomes part of the history: its bytes are sent as an object (DataUpload.swift), then
// an entry of the chain names it. What the segment says of itself is read from its own first and
// last bytes as they pass, and its digest is checked: nobody at the other end could.
//
// One thread.

import Crypto
import History
import LogFormat
import NIOCore
import ServerAPI
import Shipping

/// One segment on its way into a volume.
final class SegmentPut {
    private let volume: ObjectVolume
    private let isSealed: Bool
    let upload: DataUpload
    private var hasher: TailHasher
    /// Where the hasher takes another digest than that of all bytes.
    private var whole = SHA256()
    private var head: [UInt8] = []
    /// Below the volume's prefix.
    private var object: String

    /// `tag` is the same for the same bytes, and for no others.
    init(
        _ volume: ObjectVolume, name: String, tag: String, isSealed: Bool, isPaced: Bool,
        mayResume: Bool
    ) {
        self.volume = volume
        self.isSealed = isSealed
        var object = "segments/\(name).\(Self.short(tag))"
        if let state = volume.chain.current, state.wasUsed(object) {
            // A deletion of it may still be under way.
            object += "-" + String(UInt64.random(in: .min ... .max), radix: 16)
        }
        self.object = object
        upload = DataUpload(
            volume.client,
            DataUpload.Place(
                key: volume.client.url.key(object), tag: Self.short(tag), isPaced: isPaced,
                mayResume: mayResume))
        hasher = TailHasher(isSealed: isSealed)
        volume.hold(object)
    }

    deinit { volume.release(object) }

    /// Gives up what was sent.
    func abandon(keepingParts: Bool) { upload.abandon(keepingParts: keepingParts) }

    /// 16 hexadecimal digits that stand for a text.
    private static func short(_ text: String) -> String {
        String(Signer.hexadecimal(SHA256.hash(data: Array(text.utf8))).prefix(16))
    }

    var byteCount: UInt64 { hasher.byteCount }

    /// Takes the next bytes into account; in order, before they are sent.
    func pass(_ bytes: UnsafeRawBufferPointer) {
        if head.count < SegmentFacts.headBytes {
            head += bytes.prefix(SegmentFacts.headBytes - head.count)
        }
        hasher.append(bytes)
        if isSealed { whole.update(bufferPointer: bytes) }
    }

    /// Of all bytes that passed.
    var sha256: String {
        hasher.sha256 ?? Signer.hexadecimal(whole.finalize())
    }

    /// What the bytes are; `.damaged` where they are no segment, or not one of this volume.
    func facts(_ state: ChainState) throws(ErrorReply) -> SegmentFacts {
        let tail = Array(hasher.tail.suffix(SegmentFacts.tailBytes(isSealed: isSealed)))
        let facts = try SegmentFacts.facts(
            head: head, tail: tail, byteCount: byteCount, isSealed: isSealed)
        guard hasher.digest(without: facts.digestBytes) == facts.digest else {
            throw ErrorReply(.damaged, "the segment's own digest is wrong")
        }
        guard facts.volume == state.volume, facts.volumeBytes == state.sizeBytes else {
            throw ErrorReply(.otherVolume, "the segment is of another volume")
        }
        return facts
    }

    /// The entry that names the object, once it is there. `wasThere` where the history has it.
    func enter(
        _ facts: SegmentFacts, mayBeThere: Bool,
        following: (ChainState) -> (after: String?, isGap: Bool, isRewrite: Bool)
    ) throws(ShipError) -> CommitReply {
        var wasThere = false
        let (bytes, sum) = (byteCount, sha256)
        let prefix = volume.client.url.key("")
        let object = String(upload.place.key.dropFirst(prefix.count))
        let state = try volume.change { (state) throws(ShipError) in
            if let there = state.segments["\(facts.name)"] {
                // Our own entry whose answer was lost, or the same from before.
                wasThere = there.object != object
                guard
                    there.object == object
                        || mayBeThere && there.bytes == bytes
                            && there.digest == facts.digest
                else { throw Self.exists(facts.name) }
                return nil
            }
            let (after, isGap, isRewrite) = following(state)
            var entry = SegmentEntry(
                facts, object: object, bytes: bytes, sha256: sum, after: after, isGap: isGap,
                isRewrite: isRewrite, head: nil)
            do throws(ErrorReply) {
                entry.head = try state.head(after: entry)
            } catch { throw .rejected(error) }
            return .segment(entry)
        }
        return CommitReply(wasThere: wasThere, head: state.head)
    }

    static func exists(_ name: SegmentName) -> ShipError {
        .rejected(ErrorReply(.exists, "there is a segment \(name) with other bytes"))
    }
}
