// The state of a volume as `logdisk status`, the control socket and the metrics tell it. One value,
// three renderings: JSON (these keys, stable), aligned text (StatusReport+Text.swift), Prometheus
// (StatusReport+Metrics.swift).

/// State of one volume, mounted or not. Counters count from the mount on and are zero without one.
public struct StatusReport: Codable, Hashable, Sendable {
    /// `ok`, `degraded` (works, but look at `problems`), `failed` (writes are refused).
    public enum Health: String, Codable, Sendable { case ok, degraded, failed }

    /// A full snapshot, or another point.
    public struct Snapshot: Codable, Hashable, Sendable {
        public var lsn: UInt64
        public var time: String

        public init(lsn: UInt64, time: String) {
            self.lsn = lsn
            self.time = time
        }
    }

    /// How far an adopted volume is that was mounted before all of it was here.
    public struct Filling: Codable, Hashable, Sendable {
        /// What comes now: `remote`: its state is fetched from the server; `here`: that lies here,
        /// and the image is made of it.
        public let stage: String
        /// The volume at the server.
        public let url: String
        /// Of the volume, so far in this stage; nil without a mount: nothing comes.
        public let doneBytes: UInt64?
        public let totalBytes: UInt64
        /// 100 is all of it, and nothing less is.
        public let percent: Int?

        public init(stage: String, url: String, doneBytes: UInt64?, totalBytes: UInt64) {
            self.stage = stage
            self.url = url
            self.doneBytes = doneBytes
            self.totalBytes = totalBytes
            percent = doneBytes.map { done in
                done >= totalBytes ? 100 : min(99, Int(Double(done) * 100 / Double(totalBytes)))
            }
        }

        enum CodingKeys: String, CodingKey {
            case stage, url, percent
            case doneBytes = "done_bytes"
            case totalBytes = "total_bytes"
        }
    }

    public var volume = ""
    public var uuid = ""
    public var health = Health.ok
    public var problems: [String] = []
    public var isMounted = false
    public var mountPoint: String?
    public var pid: Int32?
    /// On which way requests come: `io-uring` or `dev-fuse`.
    public var transport: String?
    public var uptimeSeconds: Double = 0
    public var sizeBytes: UInt64 = 0
    public var imagePath = ""
    public var imageAllocatedBytes: UInt64 = 0
    public var logDirectory = ""
    public var logFreeBytes: UInt64 = 0
    public var epoch: UInt64 = 0

    public var publishedLSN: UInt64 = 0
    public var durableLSN: UInt64 = 0
    public var appliedLSN: UInt64 = 0
    public var checkpointLSN: UInt64 = 0
    public var archivedLSN: UInt64 = 0
    public var durableTime: String?
    public var lastFlushTime: String?
    public var lastSnapshot: Snapshot?
    /// The newest restore drill.
    public var lastDrill: DrillRecord?
    /// The point that a past mount shows; then most of the rest is not filled in.
    public var past: Snapshot?

    public var ringBytes: UInt64 = 0
    public var ringUsedBytes: UInt64 = 0
    public var walBytes: UInt64 = 0
    public var walBytesMax: UInt64 = 0
    /// Log that no segment holds yet, roughly.
    public var unarchivedBytes: UInt64 = 0
    public var segmentCount: Int = 0
    public var segmentBytes: UInt64 = 0

    public var writes: UInt64 = 0
    public var writtenBytes: UInt64 = 0
    public var reads: UInt64 = 0
    public var readBytes: UInt64 = 0
    public var flushes: UInt64 = 0
    public var writersHeldNow: UInt64 = 0
    public var writersHeld: UInt64 = 0
    public var writersHeldSeconds: Double = 0

    /// nil: all of the volume is here.
    public var filling: Filling?
    /// Where the history is shipped to; nil: nowhere.
    public var remotes: [RemoteReport]?

    public init() {}

    enum CodingKeys: String, CodingKey {
        case volume, uuid, health, problems, remotes, filling
        case isMounted = "mounted"
        case mountPoint = "mount_point"
        case pid, transport
        case uptimeSeconds = "uptime_seconds"
        case sizeBytes = "size_bytes"
        case imagePath = "image_path"
        case imageAllocatedBytes = "image_allocated_bytes"
        case logDirectory = "log_directory"
        case logFreeBytes = "log_free_bytes"
        case epoch
        case publishedLSN = "published_lsn"
        case durableLSN = "durable_lsn"
        case appliedLSN = "applied_lsn"
        case checkpointLSN = "checkpoint_lsn"
        case archivedLSN = "archived_lsn"
        case durableTime = "durable_time"
        case lastFlushTime = "last_flush_time"
        case lastSnapshot = "last_snapshot"
        case past
        case lastDrill = "last_drill"
        case ringBytes = "ring_bytes"
        case ringUsedBytes = "ring_used_bytes"
        case walBytes = "wal_bytes"
        case walBytesMax = "wal_bytes_max"
        case unarchivedBytes = "unarchived_bytes"
        case segmentCount = "segment_count"
        case segmentBytes = "segment_bytes"
        case writes
        case writtenBytes = "written_bytes"
        case reads
        case readBytes = "read_bytes"
        case flushes
        case writersHeldNow = "writers_held_now"
        case writersHeld = "writers_held"
        case writersHeldSeconds = "writers_held_seconds"
    }
}
