// Which segment may follow which. Pure: a head, what is known of a segment, and what the client
// says go in, the new head or a refusal comes out. The commit of an upload, the search for the head
// at the start of a server, and the chain in a bucket use the same rule.
//
//   records (log, merged)
//     first == head + 1, `after` is the head's digest (and the predecessor in the segment, where
//     that is known)                                             -> head: its last record
//     the head's digest is not known, a snapshot S >= head is there, first <= S + 1 <= last + 1
//     and last > head: begins anew behind S                      -> head: its last record
//     no head: first is 1                                        -> head: its last record
//     first > head + 1                                           -> gap
//     last <= head                                               -> old
//     else                                                       -> fork
//   snapshot S
//     S <= head                                                  -> the head stays
//     no head                                                    -> head: S, digest not known
//     beyond the head, `gap` said                                -> head: S, digest not known
//     beyond the head                                            -> gap
//     at the head, `gap` said: the writer's chain is broken here -> head: S, digest not known

import BlockModel
import LogFormat
import ServerAPI

/// What a segment says of itself, plain or sealed.
package struct SegmentFacts: Hashable, Sendable {
    package var name: SegmentName
    /// Least and greatest stamp.
    package var first: Stamp
    package var last: Stamp
    package var volume: VolumeID
    package var volumeBytes: UInt64
    /// What the segment behind names as its predecessor, in hexadecimal; nil: nothing known.
    package var chainDigest: String?
    /// What it follows, in hexadecimal; nil: it does not say.
    package var predecessor: String?
    /// SHA-256 of all bytes of the file but the last `digestBytes`.
    package var digest: String
    package var digestBytes: Int

    package init(
        name: SegmentName, first: Stamp, last: Stamp, volume: VolumeID, volumeBytes: UInt64,
        chainDigest: String?, predecessor: String?, digest: String, digestBytes: Int
    ) {
        self.name = name
        self.first = first
        self.last = last
        self.volume = volume
        self.volumeBytes = volumeBytes
        self.chainDigest = chainDigest
        self.predecessor = predecessor
        self.digest = digest
        self.digestBytes = digestBytes
    }
}

package enum ChainRule {
    /// The head after the segment; throws `.gap`, `.fork` or `.old`. `hasSnapshot` tells whether
    /// there is a snapshot in a range of LSNs.
    package static func head(
        after head: VolumeReply.Head?, _ facts: SegmentFacts, after digest: String?, isGap: Bool,
        hasSnapshot: (ClosedRange<UInt64>) -> Bool
    ) throws(ErrorReply) -> VolumeReply.Head? {
        if facts.name.kind == .snapshot {
            return try snapshot(head, facts, isGap: isGap)
        }
        let (first, last) = (facts.first.lsn.rawValue, facts.last.lsn.rawValue)
        let next = VolumeReply.Head(
            lsn: last, wallNanoseconds: facts.last.wallNanoseconds, digest: facts.chainDigest)
        guard let head else {
            guard first <= 1 else {
                throw ErrorReply(
                    .gap, "the volume has no records yet and this segment begins at lsn \(first)",
                    hint: "send a snapshot first")
            }
            return next
        }
        if last <= head.lsn {
            throw ErrorReply(.old, "records up to lsn \(head.lsn) are there already")
        }
        if first == head.lsn + 1 {
            try follows(head, facts, digest)
            return next
        }
        if head.digest == nil, anew(head, first, last, hasSnapshot) { return next }
        if first > head.lsn {
            throw ErrorReply(
                .gap, "records from lsn \(head.lsn + 1) to \(first - 1) are missing")
        }
        throw ErrorReply(
            .fork, "records from lsn \(first) to \(head.lsn) are there already, from elsewhere")
    }

    private static func snapshot(
        _ head: VolumeReply.Head?, _ facts: SegmentFacts, isGap: Bool
    ) throws(ErrorReply) -> VolumeReply.Head? {
        let stamp = facts.first
        let base = VolumeReply.Head(
            lsn: stamp.lsn.rawValue, wallNanoseconds: stamp.wallNanoseconds, digest: nil)
        guard let head else { return base }
        if stamp.lsn.rawValue < head.lsn { return head }
        if isGap { return base }
        if stamp.lsn.rawValue == head.lsn { return head }
        throw ErrorReply(
            .gap, "records from lsn \(head.lsn + 1) to \(stamp.lsn) are missing",
            hint: "say gap to go on without them")
    }

    private static func follows(
        _ head: VolumeReply.Head, _ facts: SegmentFacts, _ digest: String?
    ) throws(ErrorReply) {
        let after = digest?.lowercased()
        if let known = head.digest {
            guard after == known else {
                throw ErrorReply(
                    .fork, "the records up to lsn \(head.lsn) here are not those it follows")
            }
        }
        // Merged segments name their own end, not what they follow.
        if let after, facts.name.kind == .log, let own = facts.predecessor, own != after {
            throw ErrorReply(.fork, "the segment follows another one than the client says")
        }
        if head.digest != nil, facts.name.kind == .log, facts.predecessor == nil {
            throw ErrorReply(.fork, "the segment does not say what it follows")
        }
    }

    private static func anew(
        _ head: VolumeReply.Head, _ first: UInt64, _ last: UInt64,
        _ hasSnapshot: (ClosedRange<UInt64>) -> Bool
    ) -> Bool {
        // first <= S + 1 <= last + 1, S >= head
        let low = max(head.lsn, first > 0 ? first - 1 : 0)
        return low <= last && hasSnapshot(low...last)
    }

    /// The head that the segments of a folder lead to, from `head` on: what was durable before a
    /// crash and not written down yet is taken by the same rule.
    package static func head(
        from head: VolumeReply.Head?, _ segments: [SegmentFacts]
    ) -> VolumeReply.Head? {
        let snapshots = segments.filter { $0.name.kind == .snapshot }
        let records = segments.filter { $0.name.kind != .snapshot }
        func hasSnapshot(_ range: ClosedRange<UInt64>) -> Bool {
            snapshots.contains { range.contains($0.first.lsn.rawValue) }
        }
        var head = head
        while true {
            let before = head
            for facts in records {
                let taken = try? Self.head(
                    after: head, facts, after: head?.digest, isGap: false,
                    hasSnapshot: hasSnapshot)
                if let taken { head = taken }
            }
            if head != before { continue }
            // Only where no record leads on has there been a gap.
            let beyond = snapshots.first { facts in
                head.map { facts.first.lsn.rawValue > $0.lsn } ?? true
            }
            guard let beyond else { return head }
            head = (try? snapshot(head, beyond, isGap: true)) ?? head
        }
    }
}
