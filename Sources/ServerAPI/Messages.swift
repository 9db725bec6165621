// The JSON bodies. Keys are stable; unknown keys are ignored, so that either side may be newer.

/// What `GET /v1/health` says.
public struct HealthReply: Codable, Hashable, Sendable {
    public var service = "logdisk"
    public var version: String

    public init(version: String) { self.version = version }
}

/// Names of volumes.
public struct VolumeListing: Codable, Hashable, Sendable {
    public var volumes: [VolumeReply]

    public init(volumes: [VolumeReply]) { self.volumes = volumes }
}

/// Makes a volume at the server, or says that it is known to be the one that is there.
public struct VolumeRequest: Codable, Hashable, Sendable {
    public var uuid: String
    public var sizeBytes: UInt64
    /// Chosen at random by the client, once per volume and remote.
    public var writer: String
    /// In words, for people: the host's name.
    public var host: String
    /// Whether segments come sealed.
    public var isSealed: Bool
    /// The ladder of the remote, when it is made; nil: everything is kept.
    public var keep: String?

    public init(
        uuid: String, sizeBytes: UInt64, writer: String, host: String, isSealed: Bool,
        keep: String?
    ) {
        self.uuid = uuid
        self.sizeBytes = sizeBytes
        self.writer = writer
        self.host = host
        self.isSealed = isSealed
        self.keep = keep
    }

    enum CodingKeys: String, CodingKey {
        case uuid, writer, host, keep
        case sizeBytes = "size_bytes"
        case isSealed = "sealed"
    }
}

/// Where a volume stands at the server.
public struct VolumeReply: Codable, Hashable, Sendable {
    /// The end of the records: what comes next must follow it.
    public struct Head: Codable, Hashable, Sendable {
        public var lsn: UInt64
        public var wallNanoseconds: Int64
        /// What the next log names as its predecessor, in hexadecimal; nil: not known.
        public var digest: String?

        public init(lsn: UInt64, wallNanoseconds: Int64, digest: String?) {
            self.lsn = lsn
            self.wallNanoseconds = wallNanoseconds
            self.digest = digest
        }

        enum CodingKeys: String, CodingKey {
            case lsn, digest
            case wallNanoseconds = "wall_nanoseconds"
        }
    }
    public var name: String
    public var uuid: String
    public var sizeBytes: UInt64
    public var isSealed: Bool
    /// The ladder; nil: everything is kept.
    public var keep: String?
    /// Who may write, and since when it counts: each takeover raises the generation by one.
    public var writer: String
    public var generation: UInt64
    /// The host of the writer, in words.
    public var host: String
    /// nil as long as there are no records. LSN of the base snapshot where there is only that.
    public var head: Head?
    public var snapshotCount: Int
    public var segmentCount: Int
    public var segmentBytes: UInt64

    public init(
        name: String, uuid: String, sizeBytes: UInt64, isSealed: Bool, keep: String?,
        writer: String, generation: UInt64, host: String, head: Head?, snapshotCount: Int,
        segmentCount: Int, segmentBytes: UInt64
    ) {
        self.name = name
        self.uuid = uuid
        self.sizeBytes = sizeBytes
        self.isSealed = isSealed
        self.keep = keep
        self.writer = writer
        self.generation = generation
        self.host = host
        self.head = head
        self.snapshotCount = snapshotCount
        self.segmentCount = segmentCount
        self.segmentBytes = segmentBytes
    }

    enum CodingKeys: String, CodingKey {
        case name, uuid, keep, writer, generation, host, head
        case sizeBytes = "size_bytes"
        case isSealed = "sealed"
        case snapshotCount = "snapshot_count"
        case segmentCount = "segment_count"
        case segmentBytes = "segment_bytes"
    }
}

/// Makes somebody else the writer; the one before is refused from then on ("fenced").
public struct WriterRequest: Codable, Hashable, Sendable {
    public var writer: String
    public var host: String
    /// The generation that is known to the caller; another one means that somebody was faster.
    public var generation: UInt64

    public init(writer: String, host: String, generation: UInt64) {
        self.writer = writer
        self.host = host
        self.generation = generation
    }
}

/// Changes the ladder; needs a token with full access, but for the first time.
public struct RetentionRequest: Codable, Hashable, Sendable {
    public var keep: String?

    public init(keep: String?) { self.keep = keep }
}

public struct SegmentListing: Codable, Hashable, Sendable {
    public struct Entry: Codable, Hashable, Sendable {
        public var name: String
        public var bytes: UInt64

        public init(name: String, bytes: UInt64) {
            self.name = name
            self.bytes = bytes
        }
    }
    public var segments: [Entry]

    public init(segments: [Entry]) { self.segments = segments }
}

/// How many bytes of an upload the server has.
public struct UploadReply: Codable, Hashable, Sendable {
    public var bytes: UInt64

    public init(bytes: UInt64) { self.bytes = bytes }
}

/// Makes an upload the segment `name`.
public struct CommitRequest: Codable, Hashable, Sendable {
    public var name: String
    public var bytes: UInt64
    /// SHA-256 over all bytes of the upload, in hexadecimal. May be left out where `digest` stands.
    public var sha256: String?
    /// The digest in the footer of the segment or container, over every byte before it. The bytes
    /// behind it are covered by the footer's checksum. May be left out where `sha256` stands.
    public var digest: String?
    /// What the segment follows: the digest of VolumeReply.Head; nil for snapshots, the first
    /// records and those that begin anew behind a snapshot.
    public var after: String?
    /// The records between the head and this snapshot are known to be missing.
    public var isGap: Bool

    public init(
        name: String, bytes: UInt64, sha256: String? = nil, digest: String? = nil, after: String?,
        isGap: Bool
    ) {
        self.name = name
        self.bytes = bytes
        self.sha256 = sha256
        self.digest = digest
        self.after = after
        self.isGap = isGap
    }

    enum CodingKeys: String, CodingKey {
        case name, bytes, sha256, digest, after
        case isGap = "gap"
    }
}

public struct CommitReply: Codable, Hashable, Sendable {
    /// Whether the segment was there already, the same byte for byte.
    public var wasThere: Bool
    public var head: VolumeReply.Head?

    public init(wasThere: Bool, head: VolumeReply.Head?) {
        self.wasThere = wasThere
        self.head = head
    }

    enum CodingKeys: String, CodingKey {
        case head
        case wasThere = "was_there"
    }
}

/// Keeps segments from being pruned for ServerAPI.leaseSeconds.
public struct LeaseRequest: Codable, Hashable, Sendable {
    public var purpose: String
    public var holder: String
    /// The point that must stay restorable.
    public var at: UInt64?
    /// Names; nil: everything.
    public var segments: [String]?

    public init(purpose: String, holder: String, at: UInt64?, segments: [String]?) {
        self.purpose = purpose
        self.holder = holder
        self.at = at
        self.segments = segments
    }
}

public struct LeaseReply: Codable, Hashable, Sendable {
    public var id: String
    public var seconds: Int64

    public init(id: String, seconds: Int64) {
        self.id = id
        self.seconds = seconds
    }
}

/// Why a request was not carried out.
public struct ErrorReply: Codable, Hashable, Sendable, Error {
    /// What the client decides by. The HTTP status of each stands behind it.
    public enum Code: String, Codable, Sendable, CaseIterable {
        /// 400: not understood.
        case malformed
        /// 401: no token, or an unknown or revoked one.
        case unauthenticated
        /// 403: the token may not do this, or the volume is not its own.
        case forbidden
        /// 404: no such segment, upload, lease, set or file. Of volumes only those that the token
        /// may see.
        case missing
        /// 404: no such volume, although the token may make or see it.
        case noVolume = "no_volume"
        /// 404: no such path or method.
        case noPath = "no_path"
        /// 409: the volume there is another one (UUID, size or sealing).
        case otherVolume = "other_volume"
        /// 409: somebody else has become the writer.
        case fenced
        /// 409: the segment does not follow the head: records between are missing.
        case gap
        /// 409: the segment's place is taken, or its predecessor is another one.
        case fork
        /// 409: the segment lies before the head and is not there (pruned, or never was).
        case old
        /// 409: the upload does not stand where the bytes begin; `bytes` says where.
        case offset
        /// 409: somebody reads what should go.
        case leased
        /// 409: a set of backups is visible: nothing in it changes any more.
        case complete
        /// 409: there is a segment or file of that name with other bytes, or a set of that name.
        case exists
        /// 409: wall times lie in the future by the server's clock.
        case clock
        /// 413: too large.
        case tooLarge = "too_large"
        /// 422: the bytes are not what was announced, or not a valid segment.
        case damaged
        /// 416: the range lies outside.
        case range
        /// 503: no room; Retry-After says when to ask again.
        case full
        /// 503: busy or shutting down; Retry-After says when to ask again.
        case busy
        /// 500: the server's disk or something else failed.
        case failed
    }
    public var code: Code
    /// A sentence for people.
    public var what: String
    public var hint: String?
    /// With `.offset`: how many bytes are there.
    public var bytes: UInt64?

    public init(_ code: Code, _ what: String, hint: String? = nil, bytes: UInt64? = nil) {
        self.code = code
        self.what = what
        self.hint = hint
        self.bytes = bytes
    }
}

extension ErrorReply.Code {
    /// The HTTP status that carries it.
    public var httpStatus: Int {
        switch self {
        case .malformed: 400
        case .unauthenticated: 401
        case .forbidden: 403
        case .missing, .noVolume, .noPath: 404
        case .otherVolume, .fenced, .gap, .fork, .old, .offset, .leased, .complete, .exists, .clock:
            409
        case .tooLarge: 413
        case .range: 416
        case .damaged: 422
        case .failed: 500
        case .full, .busy: 503
        }
    }
}
