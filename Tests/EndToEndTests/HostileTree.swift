// A large tree of everything that names and files can be, made and looked at by Python, which knows
// all of it without logdisk's help: names of any bytes, paths longer than a system call takes, hard
// links across folders, holes, attributes, access lists, owners, times to the nanosecond, nodes.

import Testing

enum HostileTree {
    /// Makes `count` files from a seed, in the folders `wide` and `deep` below `folder`. No path in
    /// `wide` is longer than what rsync takes; most of `deep` is below longer ones.
    static func make(_ folder: String, count: Int, seed: Int, in scratch: Scratch) throws {
        try scratch.run("python3", "-c", maker, folder, "\(count)", "\(seed)")
        // FileManager cannot remove paths that long.
        scratch.onEnd { _ = try? scratch.attempt("rm", "-rf", "\(folder)/deep") }
    }

    /// A line for each thing below `folder`, at any depth: what it is, its metadata, its content.
    static func listing(_ folder: String, in scratch: Scratch) throws -> String {
        try scratch.run("python3", "-c", lister, folder).output
    }

    private static let maker = #"""
        import os, random, stat, struct, sys
        root, count, chance = os.fsencode(sys.argv[1]), int(sys.argv[2]), random.Random(sys.argv[3])
        NAMES = bytes(b for b in range(1, 256) if b != 47)
        os.umask(0)

        def name():
            kind = chance.random()
            length = 255 if kind < 0.002 else chance.randint(1, 200 if kind < 0.01 else 24)
            while True:
                if kind < 0.5:
                    text = b"%x" % chance.getrandbits(60)
                else:
                    text = bytes(chance.choices(NAMES, k=length))
                if text not in (b".", b".."):
                    return text

        def acl(kind):
            entries = [(1, 7, -1), (2, chance.randrange(8), chance.randrange(1, 60000)),
                       (4, 5, -1), (16, 7, -1), (32, chance.randrange(8), -1)]
            return struct.pack("<I", 2) + b"".join(
                struct.pack("<HHi", *entry) for entry in entries)

        def time():
            return chance.randrange(-10**8, 4 * 10**9) * 10**9 + chance.randrange(10**9)

        def dress(path, at):
            """Owner, mode, attributes, access list and time of what is no symbolic link."""
            is_folder = stat.S_ISDIR(os.stat(path, dir_fd=at).st_mode)
            kind = chance.random()
            if kind < 0.3:
                os.chown(path, chance.randrange(60000), chance.randrange(60000), dir_fd=at)
            if kind < 0.5:
                os.chmod(path, chance.choice((0o644, 0o000, 0o4755, 0o2711, 0o1777, 0o600)),
                         dir_fd=at)
            if kind > 0.9:
                descriptor = os.open(path, os.O_RDONLY, dir_fd=at)
                if kind > 0.92:
                    os.setxattr(descriptor, b"user." + name()[:200].replace(b"\0", b"-"),
                                chance.randbytes(chance.choice((0, 1, 30, 900))))
                elif kind > 0.91:
                    os.setxattr(descriptor, "system.posix_acl_access", acl(0))
                    if is_folder:
                        os.setxattr(descriptor, "system.posix_acl_default", acl(1))
                elif not is_folder:  # cap_net_raw, as ping has it
                    os.setxattr(descriptor, "security.capability",
                                struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0))
                    os.setxattr(descriptor, "security.logdisk", b"any")
                os.close(descriptor)
            os.utime(path, ns=(time(), time()), dir_fd=at)

        def content(path, at):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=at)
            kind = chance.random()
            if kind > 0.9995:
                os.truncate(descriptor, chance.randrange(1 << 20, 1 << 24))
                for _ in range(chance.randrange(4)):
                    os.pwrite(descriptor, chance.randbytes(5000), chance.randrange(1 << 20))
            elif kind > 0.999:
                os.write(descriptor, chance.randbytes(chance.randrange(1 << 18, 1 << 22)))
            elif kind > 0.6:
                os.write(descriptor, chance.randbytes(chance.randrange(1, 200)))
            os.close(descriptor)

        def fill(at, links, files):
            for _ in range(files):
                kind, path = chance.random(), name()
                try:
                    if kind < 0.02 and links:
                        folder, first = chance.choice(links)
                        os.link(first, path, src_dir_fd=folder, dst_dir_fd=at)
                        continue
                    if kind < 0.04:
                        target = chance.choice((b"..", b"/etc/passwd", b"/", b".", name(), name()))
                        os.symlink(target, path, dir_fd=at)
                        os.utime(path, ns=(time(), time()), dir_fd=at, follow_symlinks=False)
                        continue
                    if kind < 0.042:
                        os.mkfifo(path, dir_fd=at)
                    elif kind < 0.043:
                        os.mknod(path, stat.S_IFCHR | 0o640, os.makedev(1, 3), dir_fd=at)
                    elif kind < 0.044:
                        os.mknod(path, stat.S_IFBLK | 0o640, os.makedev(7, 99), dir_fd=at)
                    elif kind < 0.045:
                        os.mknod(path, stat.S_IFSOCK | 0o640, dir_fd=at)
                    else:
                        content(path, at)
                        dress(path, at)
                        if chance.random() < 0.03:
                            links.append((at, path))
                        continue
                    os.utime(path, ns=(time(), time()), dir_fd=at)
                except FileExistsError:
                    pass

        def folder(path, at=None):
            os.mkdir(path, 0o755, dir_fd=at)
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)

        opened, links = [(folder(root + b"/wide"), 0)], []
        folders = [(opened[0][0], b".")]
        while len(opened) < max(count // 250, 4):
            at, depth = chance.choice(opened)
            try:
                path = name()
                made = folder(path, at)
            except FileExistsError:
                continue
            folders.append((at, path))
            if depth < 9 and chance.random() < 0.9:  # the others stay empty
                opened.append((made, depth + 1))
        for at, _ in opened:
            fill(at, links, count * 19 // 20 // len(opened))
        at, links = folder(root + b"/deep"), []
        folders.append((at, b"."))
        for level in range(60):
            path = name()[:20] + b"x" * (level + 40)
            folders.append((at, path))
            at = folder(path, at)
            fill(at, links, count // 20 // 60)
        for at, path in reversed(folders):
            dress(path, at)
        """#

    private static let lister = #"""
        import hashlib, os, stat, sys
        found, seen = [], {}
        for path, folders, files, at in os.fwalk(os.fsencode(sys.argv[1])):
            folders.sort()  # that is their order, too
            for name in [b"."] + sorted(files) + folders:
                status = os.stat(name, dir_fd=at, follow_symlinks=False)
                place = os.path.normpath(path + b"/" + name)[len(sys.argv[1]):]
                line = [hashlib.sha1(place).hexdigest(), place[-40:], oct(status.st_mode),
                        status.st_uid, status.st_gid, status.st_mtime_ns]
                if stat.S_ISLNK(status.st_mode):
                    line.append(os.readlink(name, dir_fd=at))
                elif stat.S_ISREG(status.st_mode):
                    descriptor = os.open(name, os.O_RDONLY, dir_fd=at)
                    with open(descriptor, "rb") as file:
                        line += [hashlib.sha256(file.read()).hexdigest(), status.st_size]
                        line += sorted((key, os.getxattr(descriptor, key))
                                       for key in os.listxattr(descriptor))
                    line.append(seen.setdefault(status.st_ino, line[0]))
                elif not stat.S_ISDIR(status.st_mode):
                    line.append(status.st_rdev)
                found.append(" ".join(map(str, line)))
        print("\n".join(sorted(found)))
        """#
}
