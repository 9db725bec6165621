// More entries for a queue whose entries are all held up: by a full log, by a slow disk. A few
// entries are fastest as long as requests take microseconds (ADR 18), but with all of them held up
// a read would wait behind the writes that wait for room.
//
//   calm ── a queue has no free entry ──► looks every 2 ms ── no queue full for 16 looks ──► calm
//             full for 5 looks, and less than one answer an entry in each: one entry more
//
// The kernel hands out what already waits in a queue only when an entry comes back, not when a new
// one comes. So the new one is followed by a request of our own, on the queue's processor: to be
// told of none of the bytes that are cached of the file (of a folder, the kernel refuses to tell).
//
// Threads: one, bound to the processor of the queue that it helped last. It never waits for a
// request. Entries stay as long as the mount: the kernel takes none back.

import CFuse
import CLinux

#if canImport(Glibc)
    import Glibc
#endif

struct RingSupervisor {
    private static let looksUntilHelp = 5
    private static let looksUntilCalm = 16

    private let rings: Rings
    private let alarm: RingAlarm
    /// For each queue: looks in a row at which it was held up, and the answers at the last look.
    private var heldLooks: [Int]
    private var answered: [UInt32]
    private var freeLooks = 0

    init(_ rings: Rings) {
        self.rings = rings
        alarm = rings.alarm
        heldLooks = rings.queues.map { _ in 0 }
        answered = rings.queues.map { $0.look.answered }
    }

    /// Looks after the queues until the alarm ends.
    mutating func run() {
        while true {
            alarm.wait()
            if alarm.isEnded { return }
            look()
        }
    }

    private mutating func look() {
        var isSomeFull = false
        for (index, queue) in rings.queues.enumerated() {
            let (isFull, count) = queue.look
            let isHeld = isFull && count &- answered[index] < queue.entryCount
            answered[index] = count
            heldLooks[index] = isHeld ? heldLooks[index] + 1 : 0
            isSomeFull = isSomeFull || isFull
            if heldLooks[index] == Self.looksUntilHelp {
                heldLooks[index] = 0
                if rings.addEntry(to: queue) { knock(at: queue) }
            }
        }
        freeLooks = isSomeFull ? 0 : freeLooks + 1
        guard freeLooks >= Self.looksUntilCalm else { return }
        freeLooks = 0
        alarm.beCalm()
        // An entry that got a request just before saw no calm to end.
        if rings.queues.contains(where: { $0.look.isFull }) { alarm.raise() }
    }

    private func knock(at queue: RingQueue) {
        // Nothing comes up on a processor that is offline.
        guard clinux_bind_thread(clinux_thread_id(), Int32(queue.number)) == 0 else { return }
        rings.session.askForNothing()
    }
}
