package main

import (
	"fmt"
	"net/url"
	"os"

	"go.etcd.io/etcd/server/v3/embed"
)

// runEtcd serves one etcd member: arguments are the data folder, the client URL
// and the peer URL. It never syncs to disk: a cluster for tests is thrown away,
// and every API write would otherwise wait for the disk.
func runEtcd(args []string) {
	if len(args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: localkube etcd DATA_DIR CLIENT_URL PEER_URL")
		os.Exit(2)
	}
	if err := serveEtcd(args[0], args[1], args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		os.Exit(1)
	}
}

// serveEtcd returns only when the member failed.
func serveEtcd(dataDir, clientURL, peerURL string) error {
	client, err := url.Parse(clientURL)
	if err != nil {
		return err
	}
	peer, err := url.Parse(peerURL)
	if err != nil {
		return err
	}
	cfg := embed.NewConfig()
	cfg.Dir = dataDir
	cfg.UnsafeNoFsync = true
	cfg.LogLevel = "warn"
	cfg.SnapshotCount = 5000
	cfg.ListenClientUrls = []url.URL{*client}
	cfg.AdvertiseClientUrls = []url.URL{*client}
	cfg.ListenPeerUrls = []url.URL{*peer}
	cfg.AdvertisePeerUrls = []url.URL{*peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	<-server.Server.ReadyNotify()
	fmt.Fprintln(os.Stderr, "etcd ready")
	return <-server.Err()
}
