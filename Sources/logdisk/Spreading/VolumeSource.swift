// A volume as a source of spread: its state at a point as a stream of bytes, or its history as a
// tree of files that `logdisk replay` takes again. Leases keep both from being pruned meanwhile.

import BlockModel
import CommandText
import DiskIO
import Foundation
import History
import LogFormat
import ProtectedVolume
import Spread

enum VolumeSource {
    /// `vol:VOL@TARGET`: restored as the file VOL@TARGET.img.
    static func state(_ text: String) throws(CommandFailure) -> SpreadSource {
        let words = text.dropFirst(4)
        let at = words.lastIndex(of: "@")
        let volume = at.map { String(words[..<$0]) } ?? String(words)
        let targetText = at.map { String(words[words.index(after: $0)...]) } ?? "now"
        let location = VolumeLocation(volume)
        try location.mustBeLive()
        let target = try target(targetText, location)
        let past = try PastState.open(
            location, at: target, barrier: false, purpose: "spread",
            holder: "process \(getpid())")
        let name = location.path.split(separator: "/").last.map(String.init) ?? "volume"
        let safe = targetText.replacingOccurrences(of: "/", with: "_")
        return SpreadSource(stream: "\(name)@\(safe).img", origin: text, holding: past) {
            PastFile(past.view)
        }
    }

    /// A target, or the bare name of a mark.
    private static func target(
        _ text: String, _ location: VolumeLocation
    ) throws(CommandFailure) -> Target {
        do throws(CommandFailure) {
            return try VolumeHistory.target(text, "vol:\(location.object)@")
        } catch {
            return try VolumeHistory.target("mark:\(text)", "vol:\(location.object)@")
        }
    }

    /// `log:VOL`: superblock and segments, with everything archived that is durable now.
    static func history(_ text: String) throws(CommandFailure) -> SpreadSource {
        let location = VolumeLocation(String(text.dropFirst(4)))
        try location.mustBeLive()
        let past = try PastState.open(
            location, at: .now, barrier: false, purpose: "spread", holder: "process \(getpid())")
        past.release()
        let lease = HistoryLease.take(location, purpose: "spread")
        var superblock = try location.superblock()
        let logs = VolumeFolder.logDirectory(location.path, superblock)
        // What comes back is one folder, wherever the log was.
        superblock.logDirectory = ""
        let slots = slots(superblock)
        let name = location.path.split(separator: "/").last.map(String.init)
        return try translating(text) {
            try SpreadSource(
                tree: logs, origin: text, baseName: name,
                topNames: [Array("segments".utf8)],
                made: .init(
                    name: Array("superblock".utf8), bytes: slots,
                    seconds: superblock.createdWall / 1_000_000_000), holding: lease)
        }
    }

    /// The file `superblock`: both slots alike.
    private static func slots(_ superblock: Superblock) -> [UInt8] {
        let slot = AlignedBuffer(count: Superblock.slotBytes)
        superblock.encode(to: slot.bytes)
        return Array(slot.bytes) + Array(slot.bytes)
    }
}

/// A past state as a file. Any thread may read.
private final class PastFile: StorageFile, @unchecked Sendable {
    // @unchecked: the view may be read by any thread.
    private let view: PointInTimeView

    init(_ view: PointInTimeView) {
        self.view = view
        super.init(path: "lsn:\(view.lsn)")
    }

    override func read(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(IOError) -> Int {
        guard offset < view.byteCount else { return 0 }
        let count = Int(min(UInt64(target.count), view.byteCount - offset))
        do throws(HistoryError) {
            try view.read(
                into: UnsafeMutableRawBufferPointer(rebasing: target[..<count]), at: offset)
        } catch {
            throw IOError(.read, "\(path): \(error)", EIO)
        }
        return count
    }

    override func size() throws(IOError) -> UInt64 { view.byteCount }

    override func nextData(from offset: UInt64) throws(IOError) -> Range<UInt64>? {
        offset < view.byteCount ? view.nextData(from: offset) : nil
    }
}
