// logdisk mark: names the present moment.

import ArgumentParser
import CommandText

struct Mark: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mark",
        abstract: "Name the present moment, to go back to it.",
        discussion: """
            Everything written before is flushed, so the mark is a point that can be restored. \
            What a file system still holds in memory is not in it: run sync or fsfreeze first.

              logdisk mark /srv/vol before-upgrade
              logdisk replay /srv/vol --at mark:before-upgrade --output old.img
            """)

    @Argument(help: ArgumentHelp("Volume or mount point.", valueName: "VOL"))
    var volume: String

    @Argument(
        help: ArgumentHelp(
            "At most 255 bytes. Given twice, the last one counts.", valueName: "NAME"))
    var name: String

    @OptionGroup var output: OutputOptions

    func run() throws {
        let location = VolumeLocation(volume)
        let point: PointReply
        try location.mustBeLive()
        if let client = try location.client() {
            point = try client.post("/v1/mark", NameRequest(name: name))
        } else {
            try MarkName.check(name, object: volume)
            point = try VolumeService.withUnmounted(location, purpose: "mark") {
                service throws(CommandFailure) in try service.mark(name)
            }
        }
        if output.json { return try Terminal.json(point) }
        Terminal.out("mark:\(name) is lsn:\(point.lsn) at \(point.time)")
    }
}

/// What a mark may be called.
enum MarkName {
    static let bytesMax = 255

    static func check(_ name: String, object: String) throws(CommandFailure) {
        func refused(_ why: String) -> CommandFailure {
            CommandFailure(
                .usage, object, "this is no name for a mark", cause: why,
                hint: "for example before-upgrade")
        }
        if name.isEmpty { throw refused("it is empty") }
        if name.utf8.count > bytesMax { throw refused("it is longer than \(bytesMax) bytes") }
        if name.unicodeScalars.contains(where: { $0.value < 32 || $0.value == 127 }) {
            throw refused("it has control characters")
        }
    }
}
