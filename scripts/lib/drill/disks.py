"""How are disks made full and slow? As root each node has a file system of its own, in a file; its last byte can be
taken, and its writes can be held to a few a second. Where the kernel or the rights don't allow that, says so."""

import os
import pathlib
import shutil
import subprocess

# Writes per second that a slow disk does: one group of a log is one write.
SLOW_WRITES = 8
V1, V2 = pathlib.Path("/sys/fs/cgroup/blkio"), pathlib.Path("/sys/fs/cgroup")


class Disks:
    """The disks of a drill: one for each name, below `home`."""

    def __init__(self, home, names, bytes_each):
        self.home, self.bytes_each = home, bytes_each
        self.mounted, self.groups = {}, {}
        self.why_not_full = self.why_not_slow = None
        try:
            for name in names:
                self.mount(name)
        except (OSError, subprocess.CalledProcessError) as e:
            self.why_not_full = f"no file systems of their own: {getattr(e, 'stderr', None) or e}".strip()
            self.unmount()
        self.throttle = self.find_throttle()
        if self.throttle is None:
            self.why_not_slow = "no cgroup controller that limits writes"

    def path(self, name):
        """Where the data of a node goes."""
        path = self.home / "disks" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def mount(self, name):
        if os.geteuid() != 0:
            raise PermissionError("only root may mount")
        path, image = self.path(name), self.home / f"{name}.img"
        with open(image, "wb") as file:
            file.truncate(self.bytes_each)
        run = {"check": True, "capture_output": True, "text": True}
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], **run)
        subprocess.run(["mount", "-o", "loop", str(image), str(path)], **run)
        self.mounted[name] = path

    def add(self, name):
        """One more disk, of the kind that the others are."""
        if self.mounted:
            self.mount(name)

    def remove(self, name):
        """The disk is gone, with all that was on it. Whoever has that name later has another, empty one."""
        path = self.mounted.pop(name, None)
        if path:
            subprocess.run(["umount", "--lazy", str(path)], capture_output=True, check=False)
            (self.home / f"{name}.img").unlink()
        shutil.rmtree(self.path(name))

    def unmount(self):
        """Gives all back."""
        for path in self.mounted.values():
            subprocess.run(["umount", "--lazy", str(path)], capture_output=True, check=False)
        for group in self.groups.values():
            try:
                group.rmdir()
            except OSError:
                pass  # something of ours still runs there: it is gone with the drill
        self.mounted, self.groups = {}, {}

    # Full

    def fill(self, name):
        """Takes all room that there is."""
        fd = os.open(self.path(name) / "ballast", os.O_RDWR | os.O_CREAT)
        try:
            for step in (64 << 20, 1 << 20, 4096):
                while True:
                    try:
                        os.posix_fallocate(fd, os.fstat(fd).st_size, step)
                    except OSError:
                        break
        finally:
            os.close(fd)

    def free(self, name):
        (self.path(name) / "ballast").unlink(missing_ok=True)

    # Slow

    def find_throttle(self):
        """(cgroup folder to make groups in, file of the limit, the limit as text for a device)."""
        if (V1 / "blkio.throttle.write_iops_device").exists() and os.access(V1, os.W_OK):
            return V1, "blkio.throttle.write_iops_device", lambda device, n: f"{device} {n or 0}"
        try:
            if "io" in (V2 / "cgroup.controllers").read_text().split():
                (V2 / "cgroup.subtree_control").write_text("+io")
                return V2, "io.max", lambda device, n: f"{device} wiops={n or 'max'}"
        except OSError:
            pass
        return None

    def group(self, name, pid):
        """Puts a process that just started where its writes can be limited."""
        if self.throttle is None:
            return
        group = self.groups.setdefault(name, self.throttle[0] / f"zoolog-drill-{os.getpid()}-{name}")
        try:
            group.mkdir(exist_ok=True)
            (group / "cgroup.procs").write_text(str(pid))
        except OSError as e:
            self.why_not_slow, self.throttle = f"cgroups can't be used: {e}", None

    def device(self, name):
        """major:minor of the whole disk that the node's data is on."""
        stat = os.stat(self.path(name)).st_dev
        device = pathlib.Path(f"/sys/dev/block/{os.major(stat)}:{os.minor(stat)}")
        if (device / "partition").exists():
            return (device.resolve().parent / "dev").read_text().strip()
        return f"{os.major(stat)}:{os.minor(stat)}"

    def slow(self, name, is_slow):
        """Holds the node's writes to `SLOW_WRITES` a second, or lets them go."""
        _, file, limit = self.throttle
        (self.groups[name] / file).write_text(limit(self.device(name), SLOW_WRITES if is_slow else None))
