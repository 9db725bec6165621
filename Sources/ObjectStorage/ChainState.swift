// A volume as the entries of its chain leave it: what is folded from the first entry on, one after
// the other, always to the same result. Segments are held to the rule of the log server
// (History/ChainRule.swift). The same value is what a checkpoint holds. Pure.

import BlockModel
import History
import LogFormat
import ServerAPI

/// The fold of a chain's first `number` entries.
struct ChainState: Hashable, Sendable, Codable {
    /// A segment that is part of the history.
    struct Segment: Hashable, Sendable, Codable {
        /// Below the volume's prefix.
        var object: String
        var bytes: UInt64
        var sha256: String
        /// In its footer.
        var digest: String
    }
    /// A segment that is not any more, and whose object is still there.
    struct Tombstone: Hashable, Sendable, Codable {
        var name: String
        var object: String
        var bytes: UInt64
        /// When it was pruned, seconds since 1970-01-01 UTC.
        var seconds: Int64
    }

    private(set) var format = ChainEntry.format
    /// The last entry and its digest.
    private(set) var number: UInt64
    private(set) var digest: String
    let uuid: String
    let sizeBytes: UInt64
    let isSealed: Bool
    private(set) var keep: String?
    private(set) var writer: String
    private(set) var host: String
    private(set) var generation: UInt64
    private(set) var head: VolumeReply.Head?
    /// By name.
    private(set) var segments: [String: Segment] = [:]
    private(set) var tombstones: [Tombstone] = []
    /// What the store does not let go.
    private(set) var kept: [KeptObject] = []
    /// Objects that were deleted last: their keys are not used again.
    private(set) var purged: [String] = []
    private static let purgedMax = 256

    enum CodingKeys: String, CodingKey {
        case format, number, digest, uuid, keep, writer, host, generation, head, segments
        case tombstones, kept, purged
        case sizeBytes = "size_bytes"
        case isSealed = "sealed"
    }

    var volume: VolumeID? { VolumeID(uuid) }

    /// After the first entry.
    init(_ entry: ChainEntry, digest: String) throws(ChainFault) {
        guard entry.number == 1, entry.previous == nil, case .volume(let facts) = entry.change,
            VolumeID(facts.uuid) != nil
        else { throw .broken("entry \(entry.number) does not begin a volume") }
        number = 1
        self.digest = digest
        uuid = facts.uuid
        sizeBytes = facts.sizeBytes
        isSealed = facts.isSealed
        keep = facts.keep
        host = facts.host
        writer = entry.writer
        generation = 1
    }

    /// Takes the next entry, or throws and stays as it is.
    mutating func apply(_ entry: ChainEntry, digest: String) throws(ChainFault) {
        let word = "entry \(entry.number)"
        guard entry.number == number + 1, entry.previous == self.digest else {
            throw .broken("\(word) does not follow entry \(number)")
        }
        if case .takeover(let takeover) = entry.change {
            guard takeover.generation == generation + 1 else {
                throw .broken("\(word) skips a generation")
            }
            (writer, host, generation) = (entry.writer, takeover.host, takeover.generation)
        } else {
            guard entry.writer == writer else {
                throw .broken("\(word) is by \(entry.writer), who is not the writer")
            }
        }
        switch entry.change {
        case .volume: throw .broken("\(word) begins another volume")
        case .takeover: break
        case .keep(let facts): keep = facts.ladder
        case .segment(let segment): try add(segment, word)
        case .prune(let names): bury(names, at: entry.seconds)
        case .purged(let facts): forget(facts)
        }
        number = entry.number
        self.digest = digest
    }

    private mutating func add(_ segment: SegmentEntry, _ word: String) throws(ChainFault) {
        let next: VolumeReply.Head?
        do throws(ErrorReply) {
            next = try self.head(after: segment)
        } catch { throw .broken("\(word) breaks the rule: \(error.what)") }
        guard next == segment.head else { throw .broken("\(word) leads to another head") }
        // Objects of live segments are never swept.
        tombstones.removeAll { $0.object == segment.object }
        segments[segment.name] = Segment(
            object: segment.object, bytes: segment.bytes, sha256: segment.sha256,
            digest: segment.digest)
        head = next
    }

    /// The head behind a segment; throws as a log server would.
    func head(after segment: SegmentEntry) throws(ErrorReply) -> VolumeReply.Head? {
        guard let volume, let facts = segment.facts(volume, sizeBytes) else {
            throw ErrorReply(.malformed, "'\(segment.name)' is no name of a segment")
        }
        guard segments[segment.name] == nil else {
            throw ErrorReply(.exists, "there is a segment of that name")
        }
        if segment.isRewrite {
            guard let head, facts.name.kind == .merged, facts.last.lsn.rawValue <= head.lsn else {
                throw ErrorReply(.gap, "only what is there already can be retold")
            }
            return head
        }
        return try ChainRule.head(
            after: head, facts, after: segment.after, isGap: segment.isGap,
            hasSnapshot: hasSnapshot)
    }

    private func hasSnapshot(_ range: ClosedRange<UInt64>) -> Bool {
        segments.keys.contains { text in
            guard let name = SegmentName(text), name.kind == .snapshot else { return false }
            return range.contains(name.first.rawValue)
        }
    }

    private mutating func bury(_ names: [String], at seconds: Int64) {
        for name in names {
            guard let segment = segments.removeValue(forKey: name) else { continue }
            tombstones.append(
                Tombstone(
                    name: name, object: segment.object, bytes: segment.bytes, seconds: seconds))
        }
    }

    private mutating func forget(_ facts: PurgedFacts) {
        let done = Set(facts.gone + facts.kept.map(\.object))
        tombstones.removeAll { done.contains($0.object) }
        let known = Set(kept.map(\.object))
        kept += facts.kept.filter { !known.contains($0.object) }
        purged = Array((purged + facts.gone).suffix(Self.purgedMax))
    }

    /// Whether an object's key was used for something that went, or is about to.
    func wasUsed(_ object: String) -> Bool {
        purged.contains(object) || tombstones.contains { $0.object == object }
            || kept.contains { $0.object == object }
    }

    /// All objects that entries name.
    var objects: Set<String> {
        Set(segments.values.map(\.object)).union(tombstones.map(\.object))
            .union(kept.map(\.object))
    }

    /// Sorted by name.
    var listing: [StoredSegment] {
        segments.compactMap { text, segment in
            SegmentName(text).map { StoredSegment(name: $0, byteCount: segment.bytes) }
        }.sorted { $0.name < $1.name }
    }

    func reply(name: String) -> VolumeReply {
        VolumeReply(
            name: name, uuid: uuid, sizeBytes: sizeBytes, isSealed: isSealed, keep: keep,
            writer: writer, generation: generation, host: host, head: head,
            snapshotCount: segments.keys.count { SegmentName($0)?.kind == .snapshot },
            segmentCount: segments.count,
            segmentBytes: segments.values.reduce(0) { $0 + $1.bytes })
    }
}
