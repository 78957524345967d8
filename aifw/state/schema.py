"""Tables of the state. A change is a new migration; migrations are never edited."""

from __future__ import annotations

MIGRATIONS = (
    """
    create table meta (name text primary key, value text not null) without rowid;
    insert into meta values ('serial', '0');
    -- Which run changed the state; none for a rollback or release by hand.
    create table change (serial integer primary key, run integer);

    -- What an address stands for.
    create table binding (
      address text primary key, kind text not null, family text not null, artifact text not null,
      key text not null, recipe text not null, identity text not null, inputs text not null, facts text not null,
      run integer not null
    ) without rowid;

    create table artifact (
      digest text primary key, kind text not null, size integer not null, fingerprint text not null,
      facts text not null, damage text not null default '', job text not null, made_at text not null
    ) without rowid;
    create table output (
      artifact text not null, name text not null, digest text not null, facts text not null, primary key (artifact, name)
    ) without rowid;
    create table made (key text primary key, artifact text not null) without rowid;

    create table alias (
      name text primary key, artifact text not null, output text not null, digest text not null, label text not null
    ) without rowid;
    create table alias_move (
      id integer primary key, name text not null, artifact text not null, output text not null, digest text not null,
      label text not null, cause text not null, run integer, verdict text, at text not null
    );
    create table quarantine (digest text primary key, reason text not null, at text not null) without rowid;
    -- A finished comparison is kept for good.
    create table verdict (
      id integer primary key, address text not null, candidate text not null, incumbent text not null,
      run integer not null, verdict text not null, at text not null, unique (address, candidate, incumbent, verdict)
    );

    create table run (
      id integer primary key, plan text, spec text not null, pid integer not null, serial integer not null,
      state text not null, started text not null, ended text, summary text
    );
    create table job (
      id text primary key, run integer not null, address text not null, kind text not null, verb text not null,
      key text not null, recipe text not null, identity text not null, inputs text not null, state text not null,
      executor text not null,
      pid integer, pid_start integer, forecast text, actual text, error text, settings text not null default '{}',
      started text not null, ended text
    ) without rowid;
    create index job_of_address on job (address, started);
    create index job_of_kind on job (kind, ended);

    -- Effects outside the store: the intent is on disk before anything is done.
    create table effect (
      key text not null, verb text not null, address text not null, kind text not null, run integer not null,
      state text not null, intent text not null, outcome text, at text not null, primary key (key, verb)
    ) without rowid;

    create table observed (
      path text primary key, size integer not null, mtime integer not null, inode integer not null, digest text not null
    ) without rowid;
    """,
    """
    -- How often a held-out set was looked at to decide about an alias: the accepted probability of error is spent look by look.
    -- `holdout` is the digest under which the set was first seen, `data` the one it had at this look; `artifact_key` is the key of the
    -- job that looked, so that a repeated job is the same look.
    create table look (
      alias text not null, holdout text not null, number integer not null, data text not null, sketch text not null,
      artifact_key text not null, address text not null, run integer not null, at text not null,
      primary key (alias, holdout, number), unique (alias, artifact_key)
    ) without rowid;
    """,
)
