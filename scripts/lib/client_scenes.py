"""What are other people's clients told to do? Commands for `zkCli.sh` and for `cli_mt`, scene by scene. HOST is the
server's address; a line `!cut` breaks the client's connection, `!set PATH DATA` is a write by somebody else. Hard quotas are
kept (`enforceQuota`); `oracle_more_scenes.py` has them where they are not."""

ZKCLI = {
    "nodes": """
        version
        create /n data
        create -s /n/s- x
        create -e /n/e x
        create -s -e /n/se- x
        create -c /n/c
        create -c /n/c/kid
        create -t 100000 /n/t x
        create -s -t 100000 /n/st- x
        create /n/none
        ls /n
        ls -s /n
        ls -R /n
        get /n
        get -s /n/e
        get /n/none
        stat /n
        stat /n/t
        set /n second
        set -s /n third
        set -v 2 /n fourth
        getAllChildrenNumber /n
        getEphemerals
        getEphemerals /n/s
        sync /n
        delete -v 0 /n/e
        delete /n/c/kid
        ls -R /n
        deleteall /n
        ls /
        history
    """,
    "what can't be done": """
        create /w data
        create /w again
        create bad
        create /w//b x
        create /w/.. x
        create /none/kid x
        create -e /w/e x
        create /w/e/kid x
        create -t 0 /w/t x
        get /none
        ls /none
        stat /none
        set /none x
        set -v 99 /w x
        delete /none
        delete /w
        delete -v 99 /w/e
        delete /zookeeper
        getAcl /none
        setAcl /w nobody:x:r
        setAcl /w world:anyone:xyz
        setAcl -v 7 /w world:anyone:r
        create /w/acl x digest:nobody:r
        removewatches /w
        getAllChildrenNumber /none
        listquota /none
        delquota /w
        reconfig -remove 3
        bogus
        get
        deleteall /w
        addauth nobody x
        get /w
    """,
    "permissions": """
        create /p data
        getAcl /p
        getAcl -s /p
        whoami
        addauth digest me:x
        whoami
        setAcl -s /p auth::cdrwa
        getAcl /p
        get /p
        create /p/other y digest:you:2XuJ8EmmqVFSNwmHX6ISSYfqXwA=:r,world:anyone:r
        get /p/other
        set /p/other z
        getAcl /p/other
        delete /p/other
        setAcl /p world:anyone:r
        set /p no
        create /p/no no
        setAcl /p world:anyone:cdrwa
        create /q x ip:127.0.0.1:r
        get /q
        getAcl /q
        close
        connect HOST
        whoami
        create /r x auth::r
        delete /p
        delete /q
    """,
    "watches": """
        create /v a
        get -w /v
        set /v b
        set /v c
        stat -w /v
        delete /v
        stat -w /v
        create /v a
        ls -w /v
        create /v/k x
        addWatch /v
        addWatch -m PERSISTENT /v/k
        create /v/k/deep x
        set /v/k/deep y
        set /v/k y
        delete /v/k/deep
        removewatches -a /v/k
        set /v loud
        removewatches /v
        removewatches /v
        set /v quiet
        delete /v/k
        ls -w /v
        removewatches -c /v
        get -w /v
        removewatches -d /v
        delete /v
        printwatches
        printwatches off
        printwatches
    """,
    "quotas": """
        create /u data
        create /u/a 12345
        listquota /u
        setquota -n 3 /u
        listquota /u
        setquota -b 100 /u
        setquota -N 5 /u
        setquota -B 200 /u
        listquota /u
        create /u/b 12345
        create /u/c 12345
        listquota /u
        setquota -n 4 /u/a
        delquota -n /u
        listquota /u
        delquota -b /u
        delquota -N /u
        delquota -B /u
        listquota /u
        delquota /u
        listquota /u
        ls -R /zookeeper
        deleteall /u
    """,
    "quotas that are kept": """
        create /k 12345
        create /k/a 12345
        setquota -N 3 /k
        create /k/b 1
        create /k/over 1
        create -s /k/over- 1
        get /k/over
        delete /k/b
        create /k/b 2
        setquota -B 20 /k
        set /k/a 1234567890123456789
        set /k/a 123456789
        get /k/a
        listquota /k
        delquota -N /k
        create /k/c 1
        create /k/long 1234567890
        delquota -B /k
        create /k/long 1234567890
        listquota /k
        setquota -N 1 -b 1 /k
        listquota /k
        create /k/more 1
        delquota /k
        create /k/more 1
        setquota -n 2 /none
        setquota -x 2 /k
        delquota /k
        deleteall /k
    """,
    "everything below a node": """
        create /d data
        create /d/a x
        create /d/a/b x
        create /d/a/b/c x
        create /d/e x
        getAllChildrenNumber /d
        setAcl -R /d world:anyone:cdrwa
        setAcl -R -s /d world:anyone:crwda
        getAcl -s /d/a/b/c
        stat /d/a
        ls -s -R /d
        ls -R /d/a
        addWatch -m PERSISTENT_RECURSIVE /d
        set /d/a/b/c y
        deleteall -b 1 /d/a
        removewatches -a -l /d
        ls -R /d
        deleteall -b 1000 /d
        deleteall /d
        create -c -e /d x
        create -e -t 1000 /d x
        ls /
    """,
    "what shells are for": """
        create /h data
        config
        history
        redo 1
        redo 99
        ls -w /h
        create /h/kid x
        get -s -w /h
        set -s /h more
        printwatches off
        get -w /h
        set /h quiet
        sync /h
        printwatches on
        get -w /h
        set /h loud
        reconfig -add server.9=localhost:1:2;3
        deleteall /h
        close
        get /h
        connect HOST
        get /h
        getEphemerals /
        sync
        sync /none
        getAllChildrenNumber
    """,
}

# Behind the server's address.
ZKCLI_CHROOT = {
    "in a chroot": ("/jail", """
        ls /
        create / data
        ls /
        create /cell data
        create -s /cell/s- x
        create -e /cell/e x
        getEphemerals
        get -w /cell
        set /cell new
        addWatch /cell
        create /cell/k x
        ls -R /
        getAcl /cell
        setquota -n 2 /cell
        listquota /cell
        delquota /cell
        getAllChildrenNumber /
        create /jail/none x
        removewatches /cell
        deleteall /cell
        ls /
    """),
    "in a chroot that is not there": ("/nowhere", """
        ls /
        create /x data
        get /x
    """),
}

# Each is the whole command line of `zkCli.sh -server HOST ..`, which ends with the command.
ZKCLI_ALONE = [
    "create /alone data",
    "create -e /alone/e x",
    "get -s /alone",
    "set /alone more",
    "ls -R /alone",
    "get /none",
    "delete -v 77 /alone",
    "whoami",
    "deleteall /alone",
    "-timeout 6000 ls /zookeeper",
    "-waitforconnection -timeout 6000 getAcl /zookeeper",
]

ZKCLI_RECONNECT = """
    create -e /e mine
    create /x first
    get -w /x
    addWatch /x
    sync /
    !cut
    get /e
    sync /
    !set /x second
    get /x
    sync /
    !cut
    sync /
    !set /x third
    get /x
    getEphemerals
    delete /x
    delete /e
"""

CLI_MT = {
    "nodes": """
        create /c
        create +e /c/e
        create2 /c/x
        create +s /c/s
        create +es /c/es
        create +c /c/cont
        create +t=100000 /c/ttl
        create2 +t=100000 /c/ttl2
        set /c hello
        get /c
        ls /c
        ls2 /c
        exists /c
        sync /c
        delete /c/x
        aget /c
        als /c
        als2 /c
        aset /c again
        get /c
        adelete /c/e
        acreate2 /c/later
        acreate +e /c/later/not
        aexists /c
        async /c
        reconfig -remove 3
        ls /
    """,
    "what can't be done": """
        create /c
        create2 /c
        create bad
        create /none/kid
        get /none
        ls /none
        ls2 /none
        set /none x
        exists /none
        delete /none
        delete /c
        delete /zookeeper
        aget /none
        acreate /c
    """,
    "watches and proofs": """
        wexists /m
        create /m
        wexists /m
        set /m one
        set /m two
        wexists /m
        delete /m
        addauth digest me:x
        create /w2
        get /w2
        addauth nobody x
    """,
}

CLI_MT_RECONNECT = """
    create +e /me
    wexists /me
    get /me
    !cut
    get /me
    !set /me other
    get /me
    !cut
    exists /me
    delete /me
"""
