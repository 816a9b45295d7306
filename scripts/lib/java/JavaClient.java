import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.ClientCnxn;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Stat;

/**
 * What does ZooKeeper's own Java client get, beside what zkCli.sh shows? A line for each result, without times, ids and
 * zxids, so that two servers' lines may be held against each other. `java -cp .. JavaClient.java HOST`
 */
public final class JavaClient {
    private static final int PATIENCE_S = 20;
    private static String host;

    /** A client and the events that come to it. */
    private static final class Client implements Watcher {
        final LinkedBlockingQueue<WatchedEvent> events = new LinkedBlockingQueue<>();
        final ZooKeeper zk;

        Client(long session, byte[] password) throws Exception {
            zk = session == 0
                ? new ZooKeeper(host, 10_000, this)
                : new ZooKeeper(host, 10_000, this, session, password);
            expect(Watcher.Event.KeeperState.SyncConnected);
        }

        Client() throws Exception {
            this(0, null);
        }

        @Override
        public void process(WatchedEvent event) {
            events.add(event);
        }

        /** The next event, as text. */
        String next() throws Exception {
            WatchedEvent event = events.poll(PATIENCE_S, TimeUnit.SECONDS);
            return event == null ? "nothing" : event.getType() + " " + event.getState() + " " + event.getPath();
        }

        void expect(Watcher.Event.KeeperState state) throws Exception {
            WatchedEvent event = events.poll(PATIENCE_S, TimeUnit.SECONDS);
            if (event == null || event.getState() != state) {
                throw new IllegalStateException(event + ", not " + state);
            }
        }

        /** All that has come by now: a sync's answer is behind it. */
        void tell(String what) throws Exception {
            flush();
            List<String> all = new ArrayList<>();
            for (WatchedEvent event; (event = events.poll()) != null; ) {
                all.add(event.getType() + " " + event.getPath());
            }
            say(what + ": " + all);
        }

        void flush() throws Exception {
            CountDownLatch done = new CountDownLatch(1);
            zk.sync("/", (rc, path, context) -> done.countDown(), null);
            if (!done.await(PATIENCE_S, TimeUnit.SECONDS)) {
                throw new IllegalStateException("a sync is not answered");
            }
        }
    }

    private interface Action {
        Object run() throws Exception;
    }

    private static void say(String text) {
        System.out.println(text);
    }

    /** What an action comes to: its result, or its error. */
    private static void told(String what, Action action) throws Exception {
        try {
            say(what + ": " + action.run());
        } catch (KeeperException e) {
            say(what + ": " + e.code() + " " + e.getPath());
        }
    }

    /** What the client does itself when the connection breaks. */
    private static void breakConnection(ZooKeeper zk) throws Exception {
        Field cnxn = ZooKeeper.class.getDeclaredField("cnxn");
        cnxn.setAccessible(true);
        Field thread = ClientCnxn.class.getDeclaredField("sendThread");
        thread.setAccessible(true);
        Object sender = thread.get(cnxn.get(zk));
        Method close = sender.getClass().getDeclaredMethod("testableCloseSocket");
        close.setAccessible(true);
        close.invoke(sender);
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(byte[] bytes) {
        return bytes == null ? "null" : new String(bytes, StandardCharsets.UTF_8);
    }

    private static String text(Stat s) {
        return "version " + s.getVersion() + " " + s.getCversion() + " " + s.getAversion() + ", data " + s.getDataLength()
            + ", children " + s.getNumChildren() + ", ephemeral " + (s.getEphemeralOwner() != 0) + ", created first "
            + (s.getCzxid() <= s.getMzxid() && s.getCtime() <= s.getMtime()) + ", set " + (s.getCzxid() != s.getMzxid());
    }

    private static String text(OpResult result) {
        if (result instanceof OpResult.ErrorResult) {
            return "error " + ((OpResult.ErrorResult) result).getErr();
        }
        if (result instanceof OpResult.CreateResult) {
            OpResult.CreateResult made = (OpResult.CreateResult) result;
            return "create " + made.getPath();
        }
        if (result instanceof OpResult.SetDataResult) {
            return "set " + text(((OpResult.SetDataResult) result).getStat());
        }
        if (result instanceof OpResult.GetDataResult) {
            return "data " + text(((OpResult.GetDataResult) result).getData());
        }
        if (result instanceof OpResult.GetChildrenResult) {
            List<String> names = new ArrayList<>(((OpResult.GetChildrenResult) result).getChildren());
            Collections.sort(names);
            return "children " + names;
        }
        return result.getClass().getSimpleName();
    }

    private static String text(List<OpResult> results) {
        List<String> all = new ArrayList<>();
        results.forEach(result -> all.add(text(result)));
        return all.toString();
    }

    /** A multi: its results, or its error and the results of its parts. */
    private static void multi(ZooKeeper zk, String what, Op... ops) throws Exception {
        try {
            say(what + ": " + text(zk.multi(Arrays.asList(ops))));
        } catch (KeeperException e) {
            say(what + ": " + e.code() + " " + (e.getResults() == null ? "without results" : text(e.getResults())));
        }
    }

    private static void kinds(ZooKeeper zk) throws Exception {
        zk.create("/k", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        for (CreateMode mode : CreateMode.values()) {
            Stat stat = new Stat();
            long ttl = mode.isTTL() ? 1_000_000 : -1;
            told("create " + mode, () -> zk.create("/k/n-", bytes("x"), Ids.OPEN_ACL_UNSAFE, mode, stat, ttl) + " " + text(stat));
            told("again " + mode, () -> zk.create("/k/n-", bytes("x"), Ids.OPEN_ACL_UNSAFE, mode, stat, ttl));
            told("delete " + mode, () -> {
                zk.delete("/k/n-", 0);
                return "done";
            });
        }
        told("exists", () -> text(zk.exists("/k", false)));
        told("exists not", () -> zk.exists("/k/none", false));
        told("null data", () -> text(zk.getData("/k", false, null)));
        told("set", () -> text(zk.setData("/k", new byte[0], 0)));
        told("empty data", () -> text(zk.getData("/k", false, null)));
        told("wrong version", () -> zk.setData("/k", null, 7));
        told("delete with children", () -> {
            zk.delete("/k", -1);
            return "done";
        });
        told("number", () -> zk.getAllChildrenNumber("/k"));
        told("ephemerals", () -> {
            List<String> all = zk.getEphemerals();
            Collections.sort(all);
            return all;
        });
        told("ephemerals elsewhere", () -> zk.getEphemerals("/elsewhere"));
        told("config", () -> text(zk.getConfig(false, null)));
        told("who", () -> zk.whoAmI().size());
        byte[] large = new byte[1_000_000];
        told("large", () -> zk.setData("/k", large, -1).getDataLength());
        told("large again", () -> zk.getData("/k", false, null).length);
    }

    private static void multis(ZooKeeper zk) throws Exception {
        List<ACL> open = Ids.OPEN_ACL_UNSAFE;
        multi(zk, "all done", Op.create("/m", bytes("1"), open, CreateMode.PERSISTENT),
            Op.create("/m/s-", null, open, CreateMode.PERSISTENT_SEQUENTIAL), Op.setData("/m", bytes("2"), 0), Op.check("/m", 1),
            Op.create("/m/e", null, open, CreateMode.EPHEMERAL), Op.delete("/m/e", 0));
        multi(zk, "the first fails", Op.check("/m", 9), Op.setData("/m", bytes("no"), -1));
        multi(zk, "the middle one fails", Op.setData("/m", bytes("no"), -1), Op.delete("/none", -1), Op.check("/m", 1));
        multi(zk, "the last fails", Op.create("/m/x", null, open, CreateMode.PERSISTENT), Op.delete("/m", -1));
        multi(zk, "of nothing");
        multi(zk, "reads", Op.getData("/m"), Op.getChildren("/m"), Op.getData("/none"), Op.getChildren("/none"));
        told("transaction", () -> text(zk.transaction().setData("/m", bytes("3"), 1).delete("/m/s-0000000000", -1).commit()));
        told("what is there", () -> text(zk.getData("/m", false, null)) + zk.getChildren("/m", false));
    }

    private static void pipelined(ZooKeeper zk) throws Exception {
        int count = 2000;
        CountDownLatch done = new CountDownLatch(count);
        List<String> came = Collections.synchronizedList(new ArrayList<>());
        zk.create("/p", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        for (int i = 0; i < count; i++) {
            String path = "/p/n" + i % 7;
            String about = i + " ";
            switch (i * 5 % 6) {
                case 0 -> zk.create(path, bytes(about), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, (rc, p, c, name) -> {
                    came.add(c + "create " + rc);
                    done.countDown();
                }, about);
                case 1 -> zk.getData(path, false, (rc, p, c, data, stat) -> {
                    came.add(c + "get " + rc + " " + text(data));
                    done.countDown();
                }, about);
                case 2 -> zk.setData(path, bytes(about), -1, (rc, p, c, stat) -> {
                    came.add(c + "set " + rc);
                    done.countDown();
                }, about);
                case 3 -> zk.delete(path, -1, (rc, p, c) -> {
                    came.add(c + "delete " + rc);
                    done.countDown();
                }, about);
                case 4 -> zk.getChildren("/p", false, (rc, p, c, names) -> {
                    came.add(c + "children " + rc + " " + names.size());
                    done.countDown();
                }, about);
                default -> zk.exists(path, false, (rc, p, c, stat) -> {
                    came.add(c + "exists " + rc);
                    done.countDown();
                }, about);
            }
        }
        say("all answered: " + done.await(PATIENCE_S, TimeUnit.SECONDS));
        int ordered = 0;
        for (int i = 0; i < came.size(); i++) {
            ordered += came.get(i).startsWith(i + " ") ? 1 : 0;
        }
        say("in order: " + ordered + ", alike: " + came.hashCode());
    }

    private static void watches(Client mine, Client other) throws Exception {
        ZooKeeper zk = mine.zk;
        for (String path : Arrays.asList("/w", "/r", "/q")) {
            zk.create(path, null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        }
        zk.exists("/w/none", true);
        zk.getData("/w", true, null);
        zk.getChildren("/w", true);
        zk.addWatch("/r", AddWatchMode.PERSISTENT_RECURSIVE);
        other.flush();
        for (String path : Arrays.asList("/w/none", "/w/none/deep", "/r/a", "/r/a/b")) {
            other.zk.create(path, null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            other.zk.setData(path, null, -1);
        }
        other.zk.setData("/w", null, -1);
        other.zk.delete("/r/a/b", -1);
        mine.tell("changes");
        for (String which : Arrays.asList("one", "none")) {
            told("remove " + which, () -> {
                zk.removeWatches("/r", mine, Watcher.WatcherType.Any, false);
                return "done";
            });
        }
        other.zk.setData("/r/a", null, -1);
        mine.tell("what is left");
        zk.addWatch("/q", AddWatchMode.PERSISTENT);
        zk.getData("/w/none", true, null);
        zk.exists("/w/later", true);
        zk.getChildren("/w/none", true);
        zk.getData("/w/none/deep", true, null);
        // The connection breaks; meanwhile, or right behind it, somebody else changes what is watched.
        breakConnection(zk);
        other.zk.setData("/w/none", bytes("meanwhile"), -1);
        other.zk.create("/w/later", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        other.zk.delete("/w/none/deep", -1);
        List<String> events = new ArrayList<>();
        for (int i = 0; i < 6; i++) {
            events.add(mine.next());
        }
        Collections.sort(events);
        say("after a broken connection: " + events);
        other.zk.setData("/q", bytes("after"), -1);
        other.zk.setData("/w/none", bytes("after"), -1);
        mine.tell("the standing one is set again, the others are not");
    }

    private static void permissions(Client other) throws Exception {
        Client owner = new Client();
        owner.zk.addAuthInfo("digest", bytes("me:secret"));
        owner.zk.create("/a", bytes("mine"), Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        told("its ACL", () -> owner.zk.getACL("/a", null));
        other.flush();
        told("another reads", () -> text(other.zk.getData("/a", false, null)));
        told("another looks at the ACL", () -> other.zk.getACL("/a", null));
        List<ACL> both = new ArrayList<>(Ids.CREATOR_ALL_ACL);
        both.addAll(Ids.READ_ACL_UNSAFE);
        told("set", () -> owner.zk.setACL("/a", both, 0).getAversion());
        other.flush();
        told("another looks again", () -> other.zk.getACL("/a", null));
        told("another sets", () -> other.zk.setData("/a", null, -1));
        told("an empty ACL", () -> owner.zk.create("/b", null, new ArrayList<>(), CreateMode.PERSISTENT));
        // Proofs are given again after a broken connection.
        breakConnection(owner.zk);
        owner.expect(Watcher.Event.KeeperState.Disconnected);
        owner.expect(Watcher.Event.KeeperState.SyncConnected);
        told("its own, after a broken connection", () -> text(owner.zk.getData("/a", false, null)));
        owner.zk.close();
    }

    private static void sessions() throws Exception {
        Client first = new Client();
        first.zk.create("/s", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        Client other = new Client();
        breakConnection(first.zk);
        first.expect(Watcher.Event.KeeperState.Disconnected);
        first.expect(Watcher.Event.KeeperState.SyncConnected);
        told("its ephemeral, after a broken connection", () -> text(other.zk.exists("/s", false)));
        ZooKeeper thief = new ZooKeeper(host, 10_000, other, first.zk.getSessionId(), new byte[16]);
        say("a wrong password: " + other.next());
        // Apache closes the owner's connection at first.
        for (boolean known = false; !known; ) {
            try {
                say("its owner: " + (first.zk.exists("/s", false).getEphemeralOwner() == first.zk.getSessionId()));
                known = true;
            } catch (KeeperException.ConnectionLossException e) {
                Thread.sleep(50);
            }
        }
        thief.close();
        other.events.clear();
        first.zk.close();
        told("its ephemeral, after the goodbye", () -> other.zk.exists("/s", false));
        ZooKeeper late = new ZooKeeper(host, 10_000, other, first.zk.getSessionId(), first.zk.getSessionPasswd());
        say("a session that was closed: " + other.next());
        late.close();
        other.zk.close();
    }

    public static void main(String[] args) throws Exception {
        host = args[0];
        new Client().zk.create("/java", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        // All of it in a node of its own.
        host += "/java";
        Client mine = new Client();
        Client other = new Client();
        kinds(mine.zk);
        multis(mine.zk);
        pipelined(mine.zk);
        watches(mine, other);
        permissions(other);
        sessions();
        mine.zk.close();
        other.zk.close();
        say("done");
        System.exit(0);
    }
}
