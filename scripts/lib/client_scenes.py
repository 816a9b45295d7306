"""What are other people's clients told to do? Commands for `zkCli.sh` and for `cli_mt`, scene by scene. HOST is the
server's address; a line `!cut` breaks the client's connection, `!set PATH DATA` is a write by somebody else."""

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
}

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
        aset /c again
        get /c
        adelete /c/e
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
