// One entry of the chain (VolumeChain.swift) as bytes, and back. Pure.
//
//   PREFIX/chain/0000000000000007
//
//   {"format":1,"number":7,"previous":"<SHA-256 of entry 6>","nonce":"…","time":1790000000,
//    "writer":"…","kind":"segment","segment":{…}}
//   <SHA-256 of the line before, 64 hexadecimal digits>
//
// Two lines, each with its end. The second one makes an entry whose bytes were changed on the way
// known without another request, and is what the next entry names as `previous`. An entry is never
// written twice: the nonce tells one's own from another's of the same content.

import BlockModel
import Crypto
import Foundation
import History
import LogFormat
import ServerAPI

/// One step of a volume's life.
struct ChainEntry: Hashable, Sendable {
    static let format = 1
    /// From 1, without holes.
    var number: UInt64
    /// SHA-256 of the entry before; nil for the first.
    var previous: String?
    /// Random.
    var nonce: String
    /// By the clock of who wrote it, seconds since 1970-01-01 UTC. For people, and for grace times.
    var seconds: Int64
    /// Who wrote it.
    var writer: String
    var change: ChainChange
}

/// What an entry changes.
enum ChainChange: Hashable, Sendable {
    /// Makes the volume; always the first entry.
    case volume(VolumeFacts)
    case segment(SegmentEntry)
    /// The entry's writer is the one who writes from here on.
    case takeover(Takeover)
    case keep(KeepFacts)
    /// Segments that are not listed any more; their objects go after the grace time.
    case prune([String])
    /// Objects that are gone for good, or that the store does not let go.
    case purged(PurgedFacts)
}

/// What a volume is.
struct VolumeFacts: Hashable, Sendable, Codable {
    var uuid: String
    var sizeBytes: UInt64
    var isSealed: Bool
    /// The ladder; nil: everything is kept.
    var keep: String?
    var host: String

    enum CodingKeys: String, CodingKey {
        case uuid, keep, host
        case sizeBytes = "size_bytes"
        case isSealed = "sealed"
    }
}

/// A segment that becomes part of the history.
struct SegmentEntry: Hashable, Sendable, Codable {
    var name: String
    /// Where its bytes lie, below the volume's prefix.
    var object: String
    var bytes: UInt64
    /// Over all bytes.
    var sha256: String
    /// The digest in its footer.
    var digest: String
    /// Wall times of its first and last record, nanoseconds since 1970-01-01 UTC.
    var firstWallNanoseconds: Int64
    var lastWallNanoseconds: Int64
    /// What the segment behind names as its predecessor.
    var chainDigest: String?
    /// What it follows by its own word.
    var predecessor: String?
    /// What the writer says that it follows.
    var after: String?
    var isGap: Bool
    /// It retells what is in the history already: retention wrote it. The head stays.
    var isRewrite: Bool
    /// The head behind it.
    var head: VolumeReply.Head?

    enum CodingKeys: String, CodingKey {
        case name, object, bytes, sha256, digest, predecessor, after, head
        case firstWallNanoseconds = "first_wall_nanoseconds"
        case lastWallNanoseconds = "last_wall_nanoseconds"
        case chainDigest = "chain_digest"
        case isGap = "gap"
        case isRewrite = "rewrite"
    }
}

struct Takeover: Hashable, Sendable, Codable {
    var host: String
    var generation: UInt64
}

struct KeepFacts: Hashable, Sendable, Codable {
    var ladder: String?
}

/// What became of objects that should go.
struct PurgedFacts: Hashable, Sendable, Codable {
    /// Below the volume's prefix.
    var gone: [String]
    var kept: [KeptObject]
}

/// An object that the store does not let go.
struct KeptObject: Hashable, Sendable, Codable {
    var object: String
    var bytes: UInt64
    var reason: String
}

/// Why an entry or a state is not taken.
enum ChainFault: Error, Hashable, Sendable {
    /// Bytes that are not what was written.
    case changed
    /// A newer version of logdisk wrote it.
    case newer(Int)
    /// It does not follow from what is before it.
    case broken(String)
}

extension ChainEntry: Codable {
    private enum Kind: String, Codable {
        case volume, segment, takeover, keep, prune, purged
    }

    private enum CodingKeys: String, CodingKey {
        case format, number, previous, nonce, writer, kind
        case seconds = "time"
        case volume, segment, takeover, keep, prune, purged
    }

    init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        let format = try values.decode(Int.self, forKey: .format)
        guard format == Self.format else { throw ChainFault.newer(format) }
        number = try values.decode(UInt64.self, forKey: .number)
        previous = try values.decodeIfPresent(String.self, forKey: .previous)
        nonce = try values.decode(String.self, forKey: .nonce)
        seconds = try values.decode(Int64.self, forKey: .seconds)
        writer = try values.decode(String.self, forKey: .writer)
        switch try values.decode(Kind.self, forKey: .kind) {
        case .volume: change = .volume(try values.decode(VolumeFacts.self, forKey: .volume))
        case .segment: change = .segment(try values.decode(SegmentEntry.self, forKey: .segment))
        case .takeover: change = .takeover(try values.decode(Takeover.self, forKey: .takeover))
        case .keep: change = .keep(try values.decode(KeepFacts.self, forKey: .keep))
        case .prune: change = .prune(try values.decode([String].self, forKey: .prune))
        case .purged: change = .purged(try values.decode(PurgedFacts.self, forKey: .purged))
        }
    }

    func encode(to encoder: any Encoder) throws {
        var values = encoder.container(keyedBy: CodingKeys.self)
        try values.encode(Self.format, forKey: .format)
        try values.encode(number, forKey: .number)
        try values.encodeIfPresent(previous, forKey: .previous)
        try values.encode(nonce, forKey: .nonce)
        try values.encode(seconds, forKey: .seconds)
        try values.encode(writer, forKey: .writer)
        func put(_ kind: Kind, _ value: some Encodable, _ key: CodingKeys) throws {
            try values.encode(kind, forKey: .kind)
            try values.encode(value, forKey: key)
        }
        switch change {
        case .volume(let facts): try put(.volume, facts, .volume)
        case .segment(let facts): try put(.segment, facts, .segment)
        case .takeover(let facts): try put(.takeover, facts, .takeover)
        case .keep(let facts): try put(.keep, facts, .keep)
        case .prune(let names): try put(.prune, names, .prune)
        case .purged(let facts): try put(.purged, facts, .purged)
        }
    }
}

/// The form that entries and checkpoints share: a line of JSON and its SHA-256.
enum ChainBytes {
    private static let end = UInt8(ascii: "\n")

    static func encode(_ value: some Encodable) -> (bytes: [UInt8], digest: String) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Plain values of our own: they always encode.
        let line = Array((try? encoder.encode(value)) ?? Data())
        let digest = Signer.hexadecimal(SHA256.hash(data: line))
        return (line + [end] + Array(digest.utf8) + [end], digest)
    }

    static func decode<Value: Decodable>(
        _ type: Value.Type, _ bytes: [UInt8]
    ) throws(ChainFault) -> (value: Value, digest: String) {
        guard bytes.count > 66, bytes.last == end, bytes[bytes.count - 66] == end else {
            throw .changed
        }
        let line = Data(bytes[..<(bytes.count - 66)])
        let digest = String(decoding: bytes[(bytes.count - 65)..<(bytes.count - 1)], as: UTF8.self)
        guard Signer.hexadecimal(SHA256.hash(data: line)) == digest else { throw .changed }
        do {
            return (try JSONDecoder().decode(type, from: line), digest)
        } catch {
            if let fault = error as? ChainFault { throw fault }
            throw .broken("an entry is not understood; a newer logdisk may have written it")
        }
    }
}

extension SegmentEntry {
    init(
        _ facts: SegmentFacts, object: String, bytes: UInt64, sha256: String, after: String?,
        isGap: Bool, isRewrite: Bool, head: VolumeReply.Head?
    ) {
        name = "\(facts.name)"
        self.object = object
        self.bytes = bytes
        self.sha256 = sha256
        digest = facts.digest
        firstWallNanoseconds = facts.first.wallNanoseconds
        lastWallNanoseconds = facts.last.wallNanoseconds
        chainDigest = facts.chainDigest
        predecessor = facts.predecessor
        self.after = after
        self.isGap = isGap
        self.isRewrite = isRewrite
        self.head = head
    }

    /// As the rule wants them; nil where the name is none.
    func facts(_ volume: VolumeID, _ volumeBytes: UInt64) -> SegmentFacts? {
        guard let segment = SegmentName(name) else { return nil }
        return SegmentFacts(
            name: segment,
            first: Stamp(lsn: segment.first, wallNanoseconds: firstWallNanoseconds),
            last: Stamp(lsn: segment.last, wallNanoseconds: lastWallNanoseconds), volume: volume,
            volumeBytes: volumeBytes, chainDigest: chainDigest, predecessor: predecessor,
            digest: digest, digestBytes: 0)
    }
}
