// An upload becomes a segment. In this order: the bytes are the announced ones · they are a
// segment of that name, of this volume, not from the future · it follows the head · its file is
// synced · renamed into `segments` · that folder is synced · volume.json tells the new head · the
// answer.
//
// A power cut before the sync of the folder: the segment is not there, or it is there whole; the
// client did not hear of it and commits again. After it: the segment is there, and the head is
// found again from it.

import BlockModel
import DiskIO
import History
import LogFormat
import ServerAPI

extension ServedVolume {
    /// Makes the upload `id` a segment. `now`: nanoseconds since 1970-01-01 UTC.
    func commit(
        _ id: String, _ request: CommitRequest, writer: String, now: Int64
    ) throws(ErrorReply) -> CommitReply {
        guard let segment = SegmentName(request.name) else {
            throw ErrorReply(.malformed, "'\(request.name.prefix(100))' is no name of a segment")
        }
        let digests = [request.sha256, request.digest].compactMap(\.self)
        guard !digests.isEmpty,
            digests.allSatisfy({ $0.utf8.count == 64 && $0.allSatisfy(\.isHexDigit) })
        else { throw ErrorReply(.malformed, "sha256 or digest: 64 hexadecimal digits") }
        return try locked { (changing) throws(ErrorReply) in
            let record = self.record
            try Self.mustBeWriter(writer, record)
            if let there = segments.size(segment) {
                try mustBeSame(segment, there, request, record)
                if let upload = upload(id) {
                    upload.abort()
                    forget(upload)
                }
                try write(record, &changing)
                return CommitReply(wasThere: true, head: record.head)
            }
            guard let upload = upload(id) else {
                // The answer to an earlier commit may have been lost, and the segment merged since.
                if segment.kind != .snapshot, let head = record.head,
                    segment.last.rawValue <= head.lsn
                {
                    throw ErrorReply(.old, "records up to lsn \(head.lsn) are there already")
                }
                throw ErrorReply(.missing, "there is no upload of that name")
            }
            var next = record
            do throws(ErrorReply) {
                next.head = try upload.complete(
                    byteCount: request.bytes, sha256: request.sha256
                ) { (file, hasher) throws(ErrorReply) in
                    try check(file, hasher, segment, request, record, now: now)
                } place: { (head) throws(ErrorReply) in
                    try place(upload, segment, byteCount: request.bytes)
                    return head
                }
            } catch {
                // What was thrown away begins anew.
                if upload.isGone { forget(upload) }
                throw error
            }
            forget(upload)
            try write(next, &changing)
            return CommitReply(wasThere: false, head: next.head)
        }
    }

    static func mustBeWriter(_ writer: String, _ record: VolumeRecord) throws(ErrorReply) {
        guard writer == record.writer else {
            throw ErrorReply(
                .fenced, "the volume is written by \(record.host) now",
                hint: "take it over only if that one has stopped for good")
        }
    }

    /// The head after this segment.
    private func check(
        _ file: StorageFile, _ hasher: TailHasher, _ name: SegmentName, _ request: CommitRequest,
        _ record: VolumeRecord, now: Int64
    ) throws(ErrorReply) -> VolumeReply.Head? {
        let facts = try SegmentFacts.read(
            file, byteCount: request.bytes, as: name, isSealed: record.isSealed)
        guard hasher.digest(without: facts.digestBytes) == facts.digest else {
            throw ErrorReply(.damaged, "the segment's own digest is wrong")
        }
        guard request.announces(facts) else {
            throw ErrorReply(.damaged, "the segment is not the one that was announced")
        }
        guard facts.volume == volume, facts.volumeBytes == record.sizeBytes else {
            throw ErrorReply(.otherVolume, "the segment is of another volume")
        }
        let latest = now.addingReportingOverflow(ServerAPI.clockAheadMax * 1_000_000_000)
        guard latest.overflow || facts.last.wallNanoseconds <= latest.partialValue else {
            throw ErrorReply(
                .clock, "the segment's records are from the future by this server's clock",
                hint: "set the clocks of both machines")
        }
        return try ChainRule.head(
            after: record.head, facts, after: request.after, isGap: request.isGap,
            hasSnapshot: segments.hasSnapshot)
    }

    /// Whether the segment that is there has the announced bytes.
    private func mustBeSame(
        _ name: SegmentName, _ byteCount: UInt64, _ request: CommitRequest, _ record: VolumeRecord
    ) throws(ErrorReply) {
        let other = ErrorReply(.exists, "there is a segment of that name with other bytes")
        guard byteCount == request.bytes else { throw other }
        let file: StorageFile
        do throws(IOError) {
            file = try storage.open(segments.path(name), OpenOptions(.readOnly))
        } catch { throw ErrorReply(error) }
        defer { file.close() }
        if let sha256 = request.sha256?.lowercased() {
            guard try TailHasher(file, to: byteCount, isSealed: false).sha256 == sha256 else {
                throw other
            }
        }
        let facts = try SegmentFacts.read(
            file, byteCount: byteCount, as: name, isSealed: record.isSealed)
        guard request.announces(facts) else { throw other }
    }

    private func place(
        _ upload: Upload, _ name: SegmentName, byteCount: UInt64
    ) throws(ErrorReply) {
        let target = segments.path(name)
        // Only a damaged volume has a file there that the listing does not know.
        guard !storage.exists(target) else {
            throw ErrorReply(.failed, "the segment's place is taken on the server's disk")
        }
        do throws(IOError) {
            try storage.rename(upload.path, to: target)
        } catch { throw ErrorReply(error) }
        do throws(IOError) {
            try storage.syncDirectory(segments.directory)
        } catch {
            // Nobody knows whether the name will last: it must not be taken for there.
            try? storage.rename(target, to: upload.path)
            throw ErrorReply(error)
        }
        segments.add(name, byteCount: byteCount)
    }
}

extension CommitRequest {
    /// Whether a segment has the digest that was announced, if one was.
    fileprivate func announces(_ facts: SegmentFacts) -> Bool {
        digest.map { $0.lowercased() == facts.digest } ?? true
    }
}
