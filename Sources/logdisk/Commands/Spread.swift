// logdisk spread: backups over several devices at once. Its verbs are commands of their own.

import ArgumentParser

struct SpreadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "spread",
        abstract: "Put backups on several devices at once, balanced.",
        discussion: """
            Sources are folders, files, block devices, vol:VOL@TARGET (a volume as it was), \
            log:VOL (a volume's history), id:SHA256@FOLDER (a file named by its content).

            Devices are driver:address?options: dir:/mnt/a (a folder), stream:/dev/nst0 (a tape, \
            or a file like one), iso:/srv/a.iso (a write-once image). Options: capacity=25G, \
            site=b, rate=40MB/s, weight=2.

              logdisk spread plan /home --device dir:/mnt/a --device dir:/mnt/b
              logdisk spread run /home --device dir:/mnt/a --device dir:/mnt/b --set monday
              logdisk spread list --device dir:/mnt/a
              logdisk spread restore --set monday --device dir:/mnt/a --device dir:/mnt/b \
            --output /tmp/home
            """,
        subcommands: [
            SpreadThreshold.self, SpreadPlanCommand.self, SpreadRunCommand.self, SpreadList.self,
            SpreadVerify.self, SpreadRestore.self,
            SpreadForget.self, SpreadFail.self,
        ])
}
