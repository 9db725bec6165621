// Opening a log: recovery has read it; here the new epoch begins.

import BlockModel
import DiskIO
import LogFormat

/// What a log needs to be opened for writing.
public struct LogOptions: Sendable {
    public var volume: VolumeID
    public var epoch: UInt64
    /// Drawn anew for each epoch.
    public var salt: UInt32
    public var walFileBytes: UInt64
    public var walBytesMax: UInt64
    public var ringBytes: UInt64

    public init(
        volume: VolumeID, epoch: UInt64, salt: UInt32, walFileBytes: UInt64, walBytesMax: UInt64,
        ringBytes: UInt64
    ) {
        self.volume = volume
        self.epoch = epoch
        self.salt = salt
        self.walFileBytes = walFileBytes
        self.walBytesMax = walBytesMax
        self.ringBytes = ringBytes
    }
}

extension LogWriter {
    /// A writer that goes on after what `readLog` found. Its records begin a new epoch in a new
    /// file; the files of earlier epochs stay until they are archived.
    public static func open(
        _ contents: LogContents, in directory: String, on storage: Storage, _ options: LogOptions,
        clock: WallClock
    ) throws(IOError) -> LogWriter {
        let files = try WALFiles(
            contents: contents, directory: directory, storage: storage, volume: options.volume,
            epoch: options.epoch, salt: options.salt, fileBytes: options.walFileBytes,
            bytesMax: options.walBytesMax)
        // The longest record must fit a file; it takes at most half of the ring. A superblock with
        // smaller files than the smallest ring needs is not valid.
        let fileRoom = options.walFileBytes - UInt64(WALFileHeader.byteCount)
        let longest = UInt64(RecordHeader.payloadBytesMax + RecordHeader.byteCount)
        var ringBytes = Ring.roundedBytes(options.ringBytes)
        while fileRoom < longest, fileRoom < ringBytes / 2, ringBytes > Ring.minimumBytes {
            ringBytes /= 2
        }
        let ring = Ring(bytes: ringBytes, after: contents.last, salt: options.salt, clock: clock)
        return LogWriter(ring: ring, files: files, last: contents.last)
    }

    /// Records `first ... last`, which must be durable and not released.
    public func reader(first: LSN, last: LSN) -> WALReader {
        WALReader(files: files, first: first, last: last)
    }

    /// Gets the next file ready; call from a background thread now and then.
    public func prepareNextFile() {
        guard files.needsPreparing else { return }
        // Without success the writer tries again itself and reports why.
        try? files.prepare(fillWithZeros: false)
    }
}
