// ext4 under the load of a mail server, over a loop device with direct I/O: small files created,
// made durable, renamed and deleted in many folders. The state at any flush is one that the file
// system's own journal brings to order, with every message in it that was acknowledged by then.

import Foundation
import Synchronization
import Testing

/// One message in a mailbox. Times are nanoseconds since 1970 by the clock that stamps flushes.
private struct Message: Sendable {
    var mailbox: String
    var name: String
    var content: UInt64
    /// When its delivery was acknowledged.
    var arrived: Int64
    /// Before its deletion began; nil while it stays.
    var gone: Int64?

    /// Whether a state of the time `flush` must have it.
    func isDue(at flush: Int64) -> Bool { arrived <= flush && (gone ?? .max) > flush }
}

/// A mail server's work in maildirs: each message is written below `tmp`, made durable, renamed to
/// `new`; read, it moves to `cur`; old ones are deleted. Only a delivery is waited for.
private struct MailServer {
    static let folders = ["tmp", "new", "cur"]
    let root: String

    /// Delivers, reads and deletes in one mailbox. Throws the errno of what failed.
    func work(
        _ mailbox: String, deliveries: Int, _ generator: inout SeededGenerator
    ) throws -> [Message] {
        let box = "\(root)/\(mailbox)"
        for folder in [box] + Self.folders.map({ "\(box)/\($0)" }) {
            try Self.call(mkdir(folder, 0o755))
        }
        var messages: [Message] = []
        var unread: [Int] = []
        for number in 0..<deliveries {
            messages.append(try deliver("\(number)", to: mailbox, generator.next()))
            unread.append(number)
            if generator.below(3) > 0 {
                let read = unread.remove(at: generator.below(unread.count))
                let name = messages[read].name
                if messages[read].gone == nil {
                    try Self.call(rename("\(box)/new/\(name)", "\(box)/cur/\(name)"))
                }
            }
            if generator.below(3) == 0 {
                let old = generator.below(messages.count)
                guard messages[old].gone == nil else { continue }
                messages[old].gone = wallNanoseconds()
                let folder = unread.contains(old) ? "new" : "cur"
                try Self.call(unlink("\(box)/\(folder)/\(messages[old].name)"))
            }
        }
        return messages
    }

    private func deliver(
        _ name: String, to mailbox: String, _ content: UInt64
    ) throws -> Message {
        let box = "\(root)/\(mailbox)"
        try Self.call(MountedFileSystem.write(box + "/tmp", name, content) == 0 ? 0 : -1)
        try Self.call(rename("\(box)/tmp/\(name)", "\(box)/new/\(name)"))
        let folder = open(box + "/new", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        try Self.call(folder)
        defer { close(folder) }
        try Self.call(fsync(folder))
        return Message(
            mailbox: mailbox, name: name, content: content, arrived: wallNanoseconds())
    }

    private static func call(_ result: Int32) throws {
        if result < 0 { throw Child.Missing(what: String(cString: strerror(errno))) }
    }

    /// What a state of the time `flush` lacks of `messages`, or has twice.
    func missing(of messages: [Message], at flush: Int64) -> [String] {
        messages.filter { $0.isDue(at: flush) }.compactMap { message in
            let found = ["new", "cur"].compactMap {
                FileManager.default.contents(
                    atPath: "\(root)/\(message.mailbox)/\($0)/\(message.name)")
            }
            let expected = MountedFileSystem.content(message.content)
            return found.map { Array($0) } == [expected]
                ? nil : "\(message.mailbox)/\(message.name): \(found.map(\.count))"
        }
    }
}

private func wallNanoseconds() -> Int64 {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return Int64(now.tv_sec) * 1_000_000_000 + Int64(now.tv_nsec)
}

extension EndToEnd {
    @Suite struct MailTests {
        private static let statesChecked = 30
        private static let statesMounted = 3

        private struct Points: Decodable {
            struct Flush: Decodable {
                var lsn: UInt64
                var time: String

                /// Nanoseconds since 1970; the text has up to nine digits of a second, in UTC.
                var wall: Int64? {
                    let parts = time.dropLast().split(separator: ".")
                    guard time.hasSuffix("Z"), let first = parts.first,
                        let second = ISO8601DateFormatter().date(from: first + "Z")
                    else { return nil }
                    let digits = parts.count > 1 ? String(parts[1]) : ""
                    let fraction = Int64((digits + "000000000").prefix(9)) ?? 0
                    return Int64(second.timeIntervalSince1970) * 1_000_000_000 + fraction
                }
            }
            var flushes: [Flush]
        }

        /// The flushes after `begin` up to `end`, by their LSNs.
        private func flushes(
            _ volume: TestVolume, after begin: UInt64, through end: UInt64
        ) throws -> [Points.Flush] {
            let words = ["env", "TZ=UTC0", Machine.logdisk, "points", volume.path]
            let outcome = try volume.scratch.start(words + ["--flushes", "--json"], input: nil)
                .wait()
            try #require(outcome.status == 0, "\(outcome)")
            return try JSONDecoder().decode(Points.self, from: Data(outcome.output.utf8)).flushes
                .filter { $0.lsn > begin && $0.lsn <= end }
        }

        @Test(needs("root", "loop", "mount", "losetup", "mkfs.ext4", "e2fsck"))
        func cleanAtEveryFlush() throws {
            let seed = freshSeed()
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, size: "128M")
                try volume.mount()
                let files = try MountedFileSystem(.ext4, in: scratch)
                try files.make(on: volume.disk)
                try files.sync()
                let begin = try volume.mark("begin").lsn
                let messages = try load(files, seed)
                try files.unmount()
                let end = try volume.mark("end").lsn

                let all = try flushes(volume, after: begin, through: end)
                try #require(all.count >= Self.statesChecked, "seed \(seed)")
                let chosen = (0..<Self.statesChecked).map {
                    all[$0 * (all.count - 1) / (Self.statesChecked - 1)]
                }
                #expect(chosen.first?.lsn == all.first?.lsn && chosen.last?.lsn == all.last?.lsn)
                var recoveries = 0
                for flush in chosen {
                    let image = try volume.replay("lsn:\(flush.lsn)")
                    let first = try scratch.attempt("e2fsck", "-f", "-p", image)
                    #expect(first.status <= 1, "lsn \(flush.lsn), seed \(seed): \(first)")
                    let second = try scratch.attempt("e2fsck", "-f", "-n", image)
                    #expect(second.status == 0, "lsn \(flush.lsn), seed \(seed): \(second)")
                    if first.output.contains("recovering journal") { recoveries += 1 }
                    unlink(image)
                }
                #expect(recoveries > Self.statesChecked / 2, "seed \(seed)")
                for number in 1...Self.statesMounted {
                    let flush = all[number * all.count / (Self.statesMounted + 1)]
                    try compare(volume, flush, messages, seed)
                }
                try volume.unmount()
                try volume.verify()
            }
        }

        /// Three servers at once, each with mailboxes of its own.
        private func load(_ files: MountedFileSystem, _ seed: UInt64) throws -> [Message] {
            let results = Mutex<[Result<[Message], any Error>]>([])
            let ended = DispatchSemaphore(value: 0)
            let server = MailServer(root: files.folder)
            let servers = 3
            for number in 0..<servers {
                Thread.detachNewThread {
                    var generator = SeededGenerator(seed: seed &+ UInt64(number) &+ 1)
                    let result = Result {
                        try (0..<3).flatMap {
                            try server.work("user-\(number)-\($0)", deliveries: 25, &generator)
                        }
                    }
                    results.withLock { $0.append(result) }
                    ended.signal()
                }
            }
            for _ in 0..<servers { ended.wait() }
            return try results.withLock { try $0.flatMap { try $0.get() } }
        }

        /// Mounts the state at `flush` on a branch and looks for the messages.
        private func compare(
            _ volume: TestVolume, _ flush: Points.Flush, _ messages: [Message], _ seed: UInt64
        ) throws {
            let scratch = volume.scratch
            let (folder, branch) = (scratch.newPath("past"), scratch.newPath("branch"))
            try #require(mkdir(folder, 0o755) == 0)
            try volume.logdisk(
                ["mount", volume.path, folder, "--at", "lsn:\(flush.lsn)", "--branch", branch])
            let old = try MountedFileSystem(.ext4, in: scratch)
            try old.mount(folder + "/disk.img")
            let time = try #require(flush.wall, "\(flush)")
            #expect(messages.contains { $0.isDue(at: time) }, "lsn \(flush.lsn), seed \(seed)")
            #expect(
                MailServer(root: old.folder).missing(of: messages, at: time) == [],
                "lsn \(flush.lsn), seed \(seed)")
            try old.unmountDevice()
            try old.check()
            LoopDevice.release(old.device)
            try volume.logdisk(["unmount", folder])
            try volume.logdisk(["branch", "delete", branch])
        }
    }
}
