// What does go-zookeeper get? A line for each result, without times, ids and zxids, so that two servers' lines may be held
// against each other. Takes the server's HOST:PORT.
package main

import (
	"fmt"
	"net"
	"os"
	"reflect"
	"regexp"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/samuel/go-zookeeper/zk"
)

const (
	patience       = 20 * time.Second
	sessionTimeout = 10 * time.Second
	root           = "/go"
)

var (
	host  string
	open  = zk.WorldACL(zk.PermAll)
	guids = regexp.MustCompile(`_c_[0-9a-f]+-`)
)

// A client, the events of its session, and the connection that it has just now.
type client struct {
	*zk.Conn
	events <-chan zk.Event
	mutex  sync.Mutex
	socket net.Conn
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func connect() *client {
	c := &client{}
	conn, events, err := zk.Connect([]string{host}, sessionTimeout, zk.WithLogInfo(false),
		zk.WithDialer(func(network, address string, timeout time.Duration) (net.Conn, error) {
			socket, err := net.DialTimeout(network, address, timeout)
			c.mutex.Lock()
			defer c.mutex.Unlock()
			c.socket = socket
			return socket, err
		}))
	check(err)
	conn.SetLogger(silent{})
	c.Conn, c.events = conn, events
	c.await(zk.StateHasSession)
	return c
}

type silent struct{}

func (silent) Printf(string, ...interface{}) {}

// await takes what is told of the session until it is in that state.
func (c *client) await(state zk.State) {
	limit := time.After(patience)
	for {
		select {
		case event := <-c.events:
			if event.State == state {
				return
			}
		case <-limit:
			panic(fmt.Sprintf("not in %v in time", state))
		}
	}
}

// breakConnection ends the connection underneath the client, which comes back with its session.
func (c *client) breakConnection() {
	c.mutex.Lock()
	socket := c.socket
	c.mutex.Unlock()
	check(socket.Close())
	c.await(zk.StateHasSession)
}

func say(what string, results ...interface{}) {
	texts := make([]string, len(results))
	for i, result := range results {
		texts[i] = show(result)
	}
	fmt.Println(what+":", strings.Join(texts, ", "))
}

func show(result interface{}) string {
	switch r := result.(type) {
	case []byte:
		return fmt.Sprintf("%q", r)
	case []string:
		sort.Strings(r)
		return guids.ReplaceAllString(fmt.Sprint(r), "_c_GUID-")
	case string:
		return guids.ReplaceAllString(r, "_c_GUID-")
	case *zk.Stat:
		if r == nil {
			return "no stat"
		}
		return fmt.Sprintf("v%d c%d a%d, %d bytes, %d children, ephemeral %t, changed %t, new children %t", r.Version, r.Cversion,
			r.Aversion, r.DataLength, r.NumChildren, r.EphemeralOwner != 0, r.Mzxid != r.Czxid, r.Pzxid != r.Czxid)
	case []zk.MultiResponse:
		texts := make([]string, len(r))
		for i, one := range r {
			texts[i] = fmt.Sprintf("{%s %q %v}", show(one.Stat), one.String, one.Error)
		}
		return fmt.Sprint(texts)
	}
	return fmt.Sprint(result)
}

// event tells what a watch has been told, within the time that it may take.
func event(watch <-chan zk.Event) string {
	select {
	case e := <-watch:
		return fmt.Sprintf("%v %s %v", e.Type, e.Path, e.Err)
	case <-time.After(patience):
		return "nothing"
	}
}

// quiet says that a watch was not told anything: what is told is behind a sync's answer.
func quiet(c *client, watch <-chan zk.Event) string {
	_, err := c.Sync("/")
	check(err)
	select {
	case e := <-watch:
		return fmt.Sprintf("%v %s %v", e.Type, e.Path, e.Err)
	default:
		return "nothing"
	}
}

func nodes(c *client) {
	path, err := c.Create(root, []byte("root"), 0, open)
	say("create", path, err)
	path, err = c.Create(root, nil, 0, open)
	say("create again", path, err)
	path, err = c.Create(root+"/a/b", nil, 0, open)
	say("create without a parent", path, err)
	for i := 0; i < 3; i++ {
		path, err = c.Create(root+"/seq-", []byte{byte(i)}, zk.FlagSequence, open)
		say("sequence", path, err)
	}
	path, err = c.Create(root+"/mine", nil, zk.FlagEphemeral, open)
	say("ephemeral", path, err)
	path, err = c.Create(root+"/mine/child", nil, 0, open)
	say("child of an ephemeral", path, err)
	path, err = c.CreateProtectedEphemeralSequential(root+"/mine-", nil, open)
	say("protected", path, err)
	path, err = c.Create(root+"/wrong//path", nil, 0, open)
	say("path", path, err)
	data, stat, err := c.Get(root)
	say("get", data, stat, err)
	data, stat, err = c.Get(root + "/none")
	say("get none", data, stat, err)
	stat, err = c.Set(root, []byte("more"), 0)
	say("set", stat, err)
	stat, err = c.Set(root, []byte("less"), 0)
	say("set of an old version", stat, err)
	stat, err = c.Set(root, nil, -1)
	say("set of any", stat, err)
	data, stat, err = c.Get(root)
	say("get", data, stat, err)
	names, stat, err := c.Children(root)
	say("children", names, stat, err)
	is, stat, err := c.Exists(root + "/mine")
	say("exists", is, stat, err)
	is, stat, err = c.Exists(root + "/none")
	say("exists none", is, stat, err)
	say("delete of an old version", c.Delete(root+"/seq-0000000000", 7))
	say("delete", c.Delete(root+"/seq-0000000000", 0))
	say("delete again", c.Delete(root+"/seq-0000000000", -1))
	say("delete with children", c.Delete(root, -1))
	stat, err = c.Set(root, make([]byte, 1<<20-200), -1)
	say("set of nearly 1 MiB", stat, err)
	data, _, err = c.Get(root)
	say("get of it", len(data), err)
	synced, err := c.Sync(root)
	say("sync", synced, err)
}

func multis(c *client) {
	made, err := c.Multi(&zk.CreateRequest{Path: root + "/m", Data: []byte("1"), Acl: open},
		&zk.CreateRequest{Path: root + "/m/seq-", Acl: open, Flags: zk.FlagSequence},
		&zk.SetDataRequest{Path: root + "/m", Data: []byte("22"), Version: 0},
		&zk.CheckVersionRequest{Path: root + "/m", Version: 1})
	say("multi", made, err)
	made, err = c.Multi(&zk.SetDataRequest{Path: root + "/m", Data: []byte("333"), Version: -1},
		&zk.DeleteRequest{Path: root + "/none", Version: -1}, &zk.CheckVersionRequest{Path: root + "/m", Version: 1})
	say("multi that fails", made, err)
	made, err = c.Multi(&zk.CheckVersionRequest{Path: root + "/m", Version: 9})
	say("multi of a wrong version", made, err)
	data, stat, err := c.Get(root + "/m")
	say("what is there", data, stat, err)
	made, err = c.Multi(&zk.DeleteRequest{Path: root + "/m/seq-0000000000", Version: -1}, &zk.DeleteRequest{Path: root + "/m", Version: 1})
	say("multi of deletes", made, err)
}

func lists(c *client) {
	say("auth", c.AddAuth("digest", []byte("anna:secret")))
	say("auth of an unknown scheme", connect().AddAuth("nobody", []byte("x")))
	path, err := c.Create(root+"/hers", []byte("x"), 0, zk.AuthACL(zk.PermAll))
	say("create for who is known", path, err)
	acl, stat, err := c.GetACL(root + "/hers")
	say("its list", acl, stat, err)
	other := connect()
	data, stat, err := other.Get(root + "/hers")
	say("another gets", data, stat, err)
	stat, err = c.SetACL(root+"/hers", append(zk.DigestACL(zk.PermRead|zk.PermWrite, "bert", "word"), zk.WorldACL(zk.PermRead)...), 0)
	say("another list", stat, err)
	stat, err = c.SetACL(root+"/hers", open, 0)
	say("an old list's version", stat, err)
	data, stat, err = other.Get(root + "/hers")
	say("another gets", data, stat, err)
	stat, err = other.Set(root+"/hers", []byte("y"), -1)
	say("another sets", stat, err)
	say("auth", other.AddAuth("digest", []byte("bert:word")))
	stat, err = other.Set(root+"/hers", []byte("y"), -1)
	say("bert sets", stat, err)
	stat, err = other.SetACL(root+"/hers", open, -1)
	say("bert changes the list", stat, err)
	other.breakConnection()
	stat, err = other.Set(root+"/hers", []byte("z"), -1)
	say("bert sets over a new connection", stat, err)
	path, err = c.Create(root+"/bad", nil, 0, []zk.ACL{{Perms: zk.PermAll, Scheme: "nobody", ID: "x"}})
	say("a list of an unknown scheme", path, err)
	path, err = c.Create(root+"/bad", nil, 0, []zk.ACL{})
	say("an empty list", path, err)
	other.Close()
}

func watches(c *client) {
	other := connect()
	_, _, data, err := c.GetW(root)
	check(err)
	_, _, children, err := c.ChildrenW(root)
	check(err)
	_, _, coming, err := c.ExistsW(root + "/coming")
	check(err)
	_, _, staying, err := c.GetW(root + "/m0")
	say("watch of what is not there", err)
	_, err = other.Set(root, []byte("x"), -1)
	check(err)
	_, err = other.Create(root+"/coming", nil, 0, open)
	check(err)
	say("data", event(data))
	say("children", event(children))
	say("coming", event(coming))
	say("not there", staying == nil)
	// What is missed while the connection is away comes when it is back.
	_, _, data, err = c.GetW(root)
	check(err)
	_, _, gone, err := c.ExistsW(root + "/coming")
	check(err)
	_, _, still, err := c.ExistsW(root + "/later")
	check(err)
	c.mutex.Lock()
	check(c.socket.Close())
	c.mutex.Unlock()
	_, err = other.Set(root, []byte("y"), -1)
	check(err)
	check(other.Delete(root+"/coming", -1))
	c.await(zk.StateHasSession)
	say("data, away", event(data))
	say("gone, away", event(gone))
	say("nothing", quiet(c, still))
	_, err = other.Create(root+"/later", nil, 0, open)
	check(err)
	say("later", event(still))
	other.Close()
}

func sessions(c *client) {
	is, stat, err := c.Exists(root + "/mine")
	say("before", is, stat.EphemeralOwner == c.SessionID(), err)
	before := c.SessionID()
	c.breakConnection()
	say("the same session", c.SessionID() == before)
	is, stat, err = c.Exists(root + "/mine")
	say("after", is, stat.EphemeralOwner == c.SessionID(), err)
	other := connect()
	_, _, gone, err := other.ExistsW(root + "/mine")
	check(err)
	c.Close()
	say("closed", event(gone))
	names, _, err := other.Children(root)
	say("children", names, err)
	other.Close()
}

func locks() {
	one, two := connect(), connect()
	first, second := zk.NewLock(one.Conn, root+"/lock", open), zk.NewLock(two.Conn, root+"/lock", open)
	check(first.Lock())
	say("twice", first.Lock())
	got := make(chan error)
	go func() { got <- second.Lock() }()
	// It waits: its own node is there, behind the first one's.
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if names, _, _ := one.Children(root + "/lock"); len(names) == 2 {
			break
		}
	}
	select {
	case err := <-got:
		say("too early", err)
	default:
		say("it waits")
	}
	check(first.Unlock())
	say("got", <-got)
	two.breakConnection()
	say("given back", second.Unlock())
	say("again", second.Unlock())
	names, _, err := one.Children(root + "/lock")
	say("left", names, err)
	one.Close()
	two.Close()
}

func words() {
	stats, ok := zk.FLWSrvr([]string{host}, patience)
	for _, stat := range stats {
		say("srvr", ok, stat.Error, stat.Mode, reflect.TypeOf(stat.NodeCount))
	}
	say("ruok", zk.FLWRuok([]string{host}, patience))
	clients, ok := zk.FLWCons([]string{host}, patience)
	for _, c := range clients {
		say("cons", ok, c.Error, len(c.Clients))
	}
}

func main() {
	host = os.Args[1]
	c := connect()
	for _, part := range []struct {
		name string
		run  func(*client)
	}{{"nodes", nodes}, {"multis", multis}, {"lists", lists}, {"watches", watches}, {"sessions", sessions}} {
		fmt.Println("#", part.name)
		part.run(c)
	}
	fmt.Println("# locks")
	locks()
	fmt.Println("# words")
	words()
}
