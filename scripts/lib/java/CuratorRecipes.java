import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.curator.retry.RetryNTimes;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.ClientCnxn;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.ZooKeeper;

/** Do Curator's recipes work? A line each, `ok` or why not. `java -cp .. CuratorRecipes.java HOST[,HOST..]` */
public final class CuratorRecipes {
    private static final int CLIENTS = 4;
    private static final int PATIENCE_S = 30;
    private static final String ROOT = "/curator";
    private static final List<CuratorFramework> clients = new ArrayList<>();
    private static final ExecutorService threads = Executors.newCachedThreadPool();
    private static int failed;

    private interface Test {
        void run(String path) throws Exception;
    }

    private interface Work {
        void run(int index, CuratorFramework client) throws Exception;
    }

    private static void check(boolean is, String what) {
        if (!is) {
            throw new IllegalStateException(what);
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

    private static void inParallel(Work work) throws Exception {
        List<Callable<Void>> all = new ArrayList<>();
        for (int i = 0; i < CLIENTS; i++) {
            int index = i;
            all.add(() -> {
                work.run(index, clients.get(index));
                return null;
            });
        }
        for (Future<Void> done : threads.invokeAll(all, PATIENCE_S, TimeUnit.SECONDS)) {
            done.get();
        }
    }

    /** Until it is so. */
    private static void until(String what, Callable<Boolean> is) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_S);
        while (!is.call()) {
            check(System.nanoTime() < deadline, what);
            Thread.sleep(10);
        }
    }

    private static void test(String name, Test test) {
        try {
            test.run(ROOT + "/" + name.replace(' ', '-'));
            System.out.println("ok      " + name);
        } catch (Throwable e) {
            failed++;
            System.out.println("FAILED  " + name + ": " + e);
            e.printStackTrace(System.out);
        }
    }

    private static void nodes(String path) throws Exception {
        CuratorFramework c = clients.get(0);
        String made = c.create().creatingParentContainersIfNeeded().withProtection()
            .withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath(path + "/deep/n-", bytes("x"));
        check(made.contains("_c_") && made.endsWith("0000000000"), made);
        check(c.checkExists().forPath(made).getEphemeralOwner() == c.getZookeeperClient().getZooKeeper().getSessionId(), "owner");
        c.create().orSetData().forPath(path + "/data", bytes("1"));
        c.create().orSetData().forPath(path + "/data", bytes("2"));
        check(new String(c.getData().forPath(path + "/data"), StandardCharsets.UTF_8).equals("2"), "set");
        c.create().withTtl(1_000_000).withMode(CreateMode.PERSISTENT_WITH_TTL).forPath(path + "/ttl");
        try {
            c.delete().forPath(path);
            check(false, "deleted with children");
        } catch (KeeperException.NotEmptyException e) {
            check(e.code() == KeeperException.Code.NOTEMPTY, "code");
        }
        c.delete().guaranteed().deletingChildrenIfNeeded().forPath(path);
        check(c.checkExists().forPath(path) == null, "still there");
    }

    private static void transactions(String path) throws Exception {
        CuratorFramework c = clients.get(0);
        c.create().creatingParentsIfNeeded().forPath(path, bytes("1"));
        List<CuratorTransactionResult> all = c.transaction().forOperations(
            c.transactionOp().create().forPath(path + "/a"), c.transactionOp().setData().withVersion(0).forPath(path, bytes("2")),
            c.transactionOp().check().withVersion(1).forPath(path), c.transactionOp().delete().forPath(path + "/a"));
        check(all.size() == 4 && all.get(1).getResultStat().getVersion() == 1, all.toString());
        try {
            c.transaction().forOperations(c.transactionOp().create().forPath(path + "/b"),
                c.transactionOp().check().withVersion(9).forPath(path));
            check(false, "done in spite of a wrong version");
        } catch (KeeperException.BadVersionException e) {
            check(e.getResults().size() == 2, "results of both");
        }
        check(c.getChildren().forPath(path).isEmpty(), "nothing of it was done");
    }

    private static void mutex(String path) throws Exception {
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger rounds = new AtomicInteger();
        inParallel((index, client) -> {
            InterProcessMutex lock = new InterProcessMutex(client, path);
            for (int i = 0; i < 10; i++) {
                check(lock.acquire(PATIENCE_S, TimeUnit.SECONDS), "not acquired");
                check(inside.incrementAndGet() == 1, "two are inside");
                rounds.incrementAndGet();
                inside.decrementAndGet();
                lock.release();
            }
        });
        check(rounds.get() == 10 * CLIENTS, rounds + " rounds");
    }

    private static void readWriteLock(String path) throws Exception {
        InterProcessReadWriteLock one = new InterProcessReadWriteLock(clients.get(0), path);
        InterProcessReadWriteLock two = new InterProcessReadWriteLock(clients.get(1), path);
        one.readLock().acquire();
        check(two.readLock().acquire(PATIENCE_S, TimeUnit.SECONDS), "readers exclude each other");
        check(!two.writeLock().acquire(200, TimeUnit.MILLISECONDS), "a writer beside a reader");
        one.readLock().release();
        two.readLock().release();
        check(two.writeLock().acquire(PATIENCE_S, TimeUnit.SECONDS), "no writer");
        check(!one.readLock().acquire(200, TimeUnit.MILLISECONDS), "a reader beside a writer");
        two.writeLock().release();
    }

    private static void semaphore(String path) throws Exception {
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger most = new AtomicInteger();
        inParallel((index, client) -> {
            InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(client, path, 2);
            for (int i = 0; i < 5; i++) {
                Lease lease = semaphore.acquire(PATIENCE_S, TimeUnit.SECONDS);
                check(lease != null, "no lease");
                most.accumulateAndGet(inside.incrementAndGet(), Math::max);
                inside.decrementAndGet();
                semaphore.returnLease(lease);
            }
        });
        check(most.get() <= 2, most + " at once");
    }

    private static void leaderLatch(String path) throws Exception {
        List<LeaderLatch> all = new ArrayList<>();
        for (int i = 0; i < CLIENTS; i++) {
            LeaderLatch latch = new LeaderLatch(clients.get(i), path, "c" + i);
            latch.start();
            all.add(latch);
        }
        Set<String> led = new HashSet<>();
        while (!all.isEmpty()) {
            until("nobody leads", () -> all.stream().filter(LeaderLatch::hasLeadership).count() == 1);
            LeaderLatch leader = all.stream().filter(LeaderLatch::hasLeadership).findFirst().orElseThrow();
            led.add(leader.getId());
            all.remove(leader);
            leader.close();
        }
        check(led.size() == CLIENTS, led.toString());
    }

    private static void leaderSelector(String path) throws Exception {
        CountDownLatch turns = new CountDownLatch(CLIENTS);
        AtomicInteger leading = new AtomicInteger();
        AtomicInteger most = new AtomicInteger();
        List<LeaderSelector> all = new ArrayList<>();
        for (CuratorFramework client : clients) {
            LeaderSelector selector = new LeaderSelector(client, path, new LeaderSelectorListenerAdapter() {
                @Override
                public void takeLeadership(CuratorFramework c) {
                    most.accumulateAndGet(leading.incrementAndGet(), Math::max);
                    leading.decrementAndGet();
                    turns.countDown();
                }
            });
            selector.start();
            all.add(selector);
        }
        check(turns.await(PATIENCE_S, TimeUnit.SECONDS), "not everybody led");
        check(most.get() == 1, most + " led at once");
        all.forEach(LeaderSelector::close);
    }

    private static void barriers(String path) throws Exception {
        DistributedBarrier barrier = new DistributedBarrier(clients.get(0), path + "/one");
        barrier.setBarrier();
        CountDownLatch waiting = new CountDownLatch(CLIENTS);
        Future<?> remover = threads.submit(() -> {
            waiting.await();
            barrier.removeBarrier();
            return null;
        });
        inParallel((index, client) -> {
            DistributedBarrier mine = new DistributedBarrier(client, path + "/one");
            waiting.countDown();
            check(mine.waitOnBarrier(PATIENCE_S, TimeUnit.SECONDS), "never let through");
        });
        remover.get();
        AtomicInteger inside = new AtomicInteger();
        inParallel((index, client) -> {
            DistributedDoubleBarrier both = new DistributedDoubleBarrier(client, path + "/two", CLIENTS);
            inside.incrementAndGet();
            check(both.enter(PATIENCE_S, TimeUnit.SECONDS), "never entered");
            check(inside.get() == CLIENTS, "let in before all were there");
            check(both.leave(PATIENCE_S, TimeUnit.SECONDS), "never left");
        });
    }

    private static void counters(String path) throws Exception {
        inParallel((index, client) -> {
            DistributedAtomicLong count = new DistributedAtomicLong(client, path + "/long", new RetryNTimes(1000, 1));
            for (int i = 0; i < 10; i++) {
                check(count.increment().succeeded(), "an increment failed");
            }
        });
        long sum = new DistributedAtomicLong(clients.get(0), path + "/long", new RetryNTimes(10, 10)).get().postValue();
        check(sum == 10 * CLIENTS, "counted " + sum);
        SharedCount one = new SharedCount(clients.get(0), path + "/shared", 0);
        SharedCount two = new SharedCount(clients.get(1), path + "/shared", 0);
        one.start();
        two.start();
        one.setCount(7);
        until("the other sees no change", () -> two.getCount() == 7);
        one.close();
        two.close();
    }

    private static void queue(String path) throws Exception {
        SimpleDistributedQueue one = new SimpleDistributedQueue(clients.get(0), path);
        for (int i = 0; i < 40; i++) {
            one.offer(bytes("" + i));
        }
        List<String> taken = Collections.synchronizedList(new ArrayList<>());
        inParallel((index, client) -> {
            SimpleDistributedQueue mine = new SimpleDistributedQueue(client, path);
            for (int i = 0; i < 40 / CLIENTS; i++) {
                taken.add(new String(mine.take(), StandardCharsets.UTF_8));
            }
        });
        check(new HashSet<>(taken).size() == 40, taken.toString());
    }

    private static void caches(String path) throws Exception {
        CuratorFramework writer = clients.get(1);
        writer.create().creatingParentsIfNeeded().forPath(path + "/a", bytes("1"));
        Set<String> seen = Collections.synchronizedSet(new HashSet<>());
        CuratorCache cache = CuratorCache.build(clients.get(0), path);
        cache.listenable().addListener((type, before, now) -> {
            byte[] data = now == null ? before.getData() : now.getData();
            String path1 = now == null ? before.getPath() : now.getPath();
            seen.add(type + " " + path1 + " " + new String(data, StandardCharsets.UTF_8));
        });
        cache.start();
        until("not told what was there", () -> seen.contains("NODE_CREATED " + path + "/a 1"));
        writer.create().forPath(path + "/b", bytes("2"));
        writer.create().forPath(path + "/b/deep", bytes("3"));
        writer.setData().forPath(path + "/a", bytes("4"));
        // A cache asks for what it is told of: what is gone by then it never knew.
        String deep = "NODE_CREATED " + path + "/b/deep 3";
        until("not told of " + deep + " but " + seen, () -> seen.contains(deep));
        writer.delete().forPath(path + "/b/deep");
        for (String event : Arrays.asList("NODE_CREATED " + path + "/b 2",
                "NODE_CHANGED " + path + "/a 4", "NODE_DELETED " + path + "/b/deep 3")) {
            until("not told of " + event + " but " + seen, () -> seen.contains(event));
        }
        // The connection breaks: the cache comes to what is there.
        breakConnection(clients.get(0).getZookeeperClient().getZooKeeper());
        writer.setData().forPath(path + "/a", bytes("5"));
        writer.create().forPath(path + "/c", bytes("6"));
        until("missed what happened meanwhile: " + seen, () -> seen.contains("NODE_CHANGED " + path + "/a 5")
            && seen.contains("NODE_CREATED " + path + "/c 6"));
        cache.close();
    }

    private static void watchers(String path) throws Exception {
        Set<String> seen = Collections.synchronizedSet(new HashSet<>());
        clients.get(0).watchers().add().withMode(AddWatchMode.PERSISTENT_RECURSIVE)
            .usingWatcher((org.apache.zookeeper.Watcher) event -> seen.add(event.getType() + " " + event.getPath())).forPath(path);
        clients.get(1).create().creatingParentsIfNeeded().forPath(path + "/x/y");
        until("not told: " + seen, () -> seen.contains("NodeCreated " + path + "/x/y"));
        clients.get(0).watchers().removeAll().forPath(path);
        clients.get(1).setData().forPath(path + "/x/y", bytes("1"));
        clients.get(0).sync().forPath(path);
        check(!seen.contains("NodeDataChanged " + path + "/x/y"), "told after it was removed");
    }

    private static void standingNodes(String path) throws Exception {
        CuratorFramework c = clients.get(0);
        PersistentNode node = new PersistentNode(c, CreateMode.EPHEMERAL, false, path + "/n", bytes("x"), true);
        node.start();
        check(node.waitForInitialCreate(PATIENCE_S, TimeUnit.SECONDS), "not made");
        clients.get(1).sync().forPath("/");
        clients.get(1).delete().forPath(path + "/n");
        until("not made again", () -> clients.get(1).checkExists().forPath(path + "/n") != null);
        node.close();
        PersistentTtlNode ttl = new PersistentTtlNode(c, path + "/t", 100_000, bytes("x"));
        ttl.start();
        check(ttl.waitForInitialCreate(PATIENCE_S, TimeUnit.SECONDS), "not made with a time to live");
        ttl.close();
        GroupMember one = new GroupMember(c, path + "/g", "one", bytes("1"));
        GroupMember two = new GroupMember(clients.get(1), path + "/g", "two", bytes("2"));
        one.start();
        two.start();
        until("the group is not whole", () -> one.getCurrentMembers().size() == 2 && two.getCurrentMembers().size() == 2);
        two.close();
        until("who left is a member", () -> one.getCurrentMembers().keySet().equals(Set.of("one")));
        one.close();
    }

    public static void main(String[] args) throws Exception {
        for (int i = 0; i < CLIENTS; i++) {
            CuratorFramework client = CuratorFrameworkFactory.newClient(args[0], 10_000, 10_000, new ExponentialBackoffRetry(50, 10));
            client.start();
            check(client.blockUntilConnected(PATIENCE_S, TimeUnit.SECONDS), "no connection");
            clients.add(client);
        }
        clients.get(0).createContainers(ROOT);
        for (CuratorFramework client : clients) {
            client.sync().forPath("/");
        }
        test("nodes, protected, with containers and times to live", CuratorRecipes::nodes);
        test("transactions", CuratorRecipes::transactions);
        test("mutex", CuratorRecipes::mutex);
        test("read write lock", CuratorRecipes::readWriteLock);
        test("semaphore", CuratorRecipes::semaphore);
        test("leader latch", CuratorRecipes::leaderLatch);
        test("leader selector", CuratorRecipes::leaderSelector);
        test("barriers", CuratorRecipes::barriers);
        test("counters", CuratorRecipes::counters);
        test("queue", CuratorRecipes::queue);
        test("caches over a broken connection", CuratorRecipes::caches);
        test("watchers", CuratorRecipes::watchers);
        test("standing nodes and groups", CuratorRecipes::standingNodes);
        clients.forEach(CuratorFramework::close);
        System.out.println(failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }
}
