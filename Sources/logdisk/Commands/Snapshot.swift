// logdisk snapshot: a full snapshot, while the volume is in use or not.

import ArgumentParser
import CommandText

struct Snapshot: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "snapshot",
        abstract: "Take a full snapshot, also while the volume is in use.",
        discussion: """
            A snapshot makes going back to what came after it faster, and keeps that possible when \
            segments before it are lost. With --name its moment becomes a mark, too.

              logdisk snapshot /srv/vol --name monday
            """)

    @Argument(help: ArgumentHelp("Volume or mount point.", valueName: "VOL"))
    var volume: String

    @Option(help: ArgumentHelp("Make a mark of this name at the snapshot.", valueName: "NAME"))
    var name: String?

    @OptionGroup var output: OutputOptions

    func run() throws {
        let location = VolumeLocation(volume)
        if let name { try MarkName.check(name, object: volume) }
        let snapshot: SnapshotReply
        try location.mustBeLive()
        if let client = try location.client() {
            snapshot = try client.post("/v1/snapshot", NameRequest(name: name))
        } else {
            Interruption.begin()
            snapshot = try VolumeService.withUnmounted(location, purpose: "snapshot") {
                service throws(CommandFailure) in try service.snapshot(name: name)
            }
        }
        if output.json { return try Terminal.json(snapshot) }
        let mark = name.map { ", mark:\($0)" } ?? ""
        Terminal.out(
            "snapshot of lsn:\(snapshot.lsn) at \(snapshot.time)\(mark), "
                + "\(ByteSize(bytes: snapshot.bytes))")
    }
}
