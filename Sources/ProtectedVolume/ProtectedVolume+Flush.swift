// Flushes and marks: records that say "everything before me is durable", and the wait for it.

import BlockModel
import CLinux
import DiskIO
import LogFormat
import Synchronization
import WriteLog

extension ProtectedVolume {
    /// Returns when every write that completed before the call is durable. The calling thread
    /// appends to the log itself when no other does.
    func flushAll() throws(DeviceError) {
        flushCount.add(1, ordering: .relaxed)
        while true {
            if log.health == .failed { throw .io }
            let ticket = room.ticket()
            let (outcome, position) = ring.reserveFlush()
            switch outcome {
            case .reserved(let place):
                lastFlushWall.store(place.stamp.wallNanoseconds, ordering: .relaxed)
                publish(place, 0)
                return try waitDurable(position)
            case nil: return try waitDurable(position)
            case .closed: throw .shuttingDown
            case .full: try waitForRoomToFlush(ticket)
            }
        }
    }

    /// Names the present moment. The name is 1 to 255 bytes of UTF-8; the caller has checked that
    /// it is new. Durable on return.
    public func mark(_ name: String) throws(DeviceError) -> Stamp {
        let bytes = Array(name.utf8)
        guard bytes.count > 0, bytes.count <= RecordHeader.markNameBytesMax else {
            throw .invalid
        }
        try flush()
        let place = try reserve(
            .mark, Extent(start: 0, count: 0), payloadBytes: bytes.count)
        let padded = place.end - place.position - UInt64(RecordHeader.byteCount)
        place.payload.initializeMemory(as: UInt8.self, repeating: 0, count: Int(padded))
        place.payload.copyMemory(from: bytes, byteCount: bytes.count)
        publish(place, clinux_crc32c(0, place.payload, bytes.count))
        try flush()
        return place.stamp
    }

    /// A flush; returns the newest stamp, durable by then, and at or after every completed write.
    public func barrier() throws(DeviceError) -> Stamp {
        try flush()
        return log.durableStamp
    }

    private func waitForRoomToFlush(_ ticket: UInt32) throws(DeviceError) {
        if options.isManual {
            guard stepWriter(), stepApplier() else {
                throw log.health == .failed ? .io : .noSpace
            }
            return
        }
        try checkHealth()
        hurry()
        room.wait(ticket)
    }

    func waitDurable(_ position: UInt64) throws(DeviceError) {
        while log.durable < position {
            let ticket = log.progress.ticket()
            do throws(LogWriter.Refusal) {
                try log.makeDurable(through: position)
                afterAppend()
            } catch {
                switch error {
                case .failed:
                    room.signal()
                    throw .io
                case .full, .behind:
                    try checkHealth()
                    if options.isManual { throw .noSpace }
                    archiverWake.signal()
                    keeperWake.signal()
                    log.progress.wait(ticket)
                }
            }
        }
    }

    /// One step of the writer: what is published becomes durable. False when the log refuses.
    @discardableResult
    package func stepWriter() -> Bool {
        do throws(LogWriter.Refusal) {
            try log.drainPublished()
            afterAppend()
            return true
        } catch {
            return false
        }
    }
}
