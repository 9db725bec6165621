// A server of PostgreSQL in a test's file system, with the tools that talk to it.

import Foundation
import Testing

/// A server of PostgreSQL whose files lie in a mounted file system.
final class PostgreSQL {
    private let scratch: Scratch
    private let data: String
    private let sockets: String
    private let tools: String
    private var postmaster: pid_t = 0

    /// One that runs on ext4 on a new, mounted volume, with an empty database `bench`.
    static func onVolume(
        in scratch: Scratch, size: String
    ) throws -> (TestVolume, MountedFileSystem, PostgreSQL) {
        let volume = try TestVolume(in: scratch, size: size)
        try volume.mount()
        let files = try MountedFileSystem(.ext4, in: scratch)
        try files.make(on: volume.disk)
        let server = try PostgreSQL(in: files, initializing: true)
        try server.start()
        try server.command("createdb", "bench")
        return (volume, files, server)
    }

    init(in files: MountedFileSystem, initializing: Bool) throws {
        scratch = files.scratch
        data = files.folder + "/data"
        sockets = scratch.newPath("sockets")
        tools = try #require(Machine.postgresFolder)
        try #require(mkdir(sockets, 0o777) == 0 && chmod(sockets, 0o777) == 0)
        scratch.onEnd { [self] in kill() }
        guard initializing else { return }
        try #require(mkdir(data, 0o700) == 0)
        try scratch.run("chown", "postgres:", data)
        try command("initdb", "--auth=trust", "--wal-segsize=1", "--no-instructions", data)
    }

    /// What the server is told at its start.
    static func options(sockets: String) -> String {
        "-c listen_addresses='' -c unix_socket_directories='\(sockets)' "
            + "-c max_wal_size=32MB -c shared_buffers=16MB -c checkpoint_timeout=30s"
    }

    private func words(_ tool: String, _ arguments: [String]) -> [String] {
        ["runuser", "-u", "postgres", "--", "env", "-C", "/", "PGHOST=\(sockets)"]
            + [tools + "/" + tool] + arguments
    }

    func command(_ tool: String, _ arguments: String...) throws {
        let outcome = try scratch.start(words(tool, arguments), input: nil).wait()
        try #require(outcome.status == 0, "\(outcome)")
    }

    func begin(_ tool: String, _ arguments: String...) throws -> Child {
        try Child(words(tool, arguments), in: scratch)
    }

    @discardableResult
    func query(_ text: String) throws -> String {
        let outcome = try scratch.start(
            words("psql", ["-qAtX", "-v", "ON_ERROR_STOP=1", "-c", text, "bench"]), input: nil
        ).wait()
        try #require(outcome.status == 0, "\(outcome)")
        return outcome.output.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// Returns when it takes connections: after its own recovery.
    func start() throws {
        try? FileManager.default.removeItem(atPath: data + "/postmaster.pid")
        try command(
            "pg_ctl", "start", "-w", "-s", "-t", "\(Int(patienceSeconds))", "-D", data, "-l",
            "\(data)/log", "-o",
            Self.options(sockets: sockets))
        let text = try String(contentsOfFile: data + "/postmaster.pid", encoding: .utf8)
        postmaster = try #require(text.split(separator: "\n").first.flatMap { pid_t($0) })
    }

    func stop() throws {
        try command("pg_ctl", "stop", "-w", "-s", "-m", "fast", "-D", data)
        postmaster = 0
    }

    /// SIGKILL for the server and all its processes.
    func kill() {
        guard postmaster != 0 else { return }
        let all = [postmaster] + children(of: postmaster)
        for process in all { Glibc.kill(process, SIGKILL) }
        eventually("the death of the server") { !all.contains { isAlive($0) } }
        postmaster = 0
    }
}
