// What goes wrong with a remote, in the words and exit codes of the command line: 14 where it
// does not answer, 15 where it does not let us in.

import CommandText
import ServerAPI
import Shipping

extension CommandFailure {
    /// `object` is the URL.
    init(_ error: ShipError, object: String) {
        let kind = RemoteKind(url: object)
        switch error {
        case .unreachable(let why):
            self.init(
                .unreachable, object, "\(kind.words) is not reachable", cause: why,
                hint: kind.reachHint)
        case .busy(let seconds, let why):
            self.init(
                .unreachable, object, "\(kind.words) asks to wait", cause: why,
                hint: "try again in \(seconds) s")
        case .full(let seconds, let why):
            self.init(
                .unreachable, object, "\(kind.words) has no room", cause: why,
                hint: "try again in \(seconds) s, when there is room again")
        case .refused(let why):
            self.init(
                .refused, object, "\(kind.words) refuses this", cause: why,
                hint: kind.accessHint)
        case .fenced(let why):
            self.init(
                .refused, object, "another machine writes this volume now", cause: why,
                hint: "logdisk adopt takes it over; this makes the other one stop shipping")
        case .rejected(let reply): self.init(reply, object: object)
        case .source(let failure): self.init(failure, object: object)
        case .stopped: self = .interrupted
        }
    }

    private init(_ reply: ErrorReply, object: String) {
        let status: ExitStatus =
            switch reply.code {
            case .noVolume: .noSuchVolume
            case .unauthenticated, .forbidden, .fenced: .refused
            case .damaged: .damaged
            case .full, .busy: .unreachable
            case .leased: .inUse
            default: .failed
            }
        let kind = RemoteKind(url: object)
        self.init(
            status, object, "\(kind.words) says no", cause: reply.what,
            hint: reply.hint ?? (reply.code == .noVolume ? kind.missingHint : nil))
    }
}

/// Runs `body`, which asks a remote about `object`, its URL.
func asking<R>(_ object: String, _ body: () throws(ShipError) -> R) throws(CommandFailure) -> R {
    do throws(ShipError) { return try body() } catch {
        throw CommandFailure(error, object: object)
    }
}
