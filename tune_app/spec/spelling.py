"""Spelling: what the names in a spec may be made of, in words."""

SPELLINGS = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$": "letters, digits, '.', '_' and '-', 64 at most, and begin with one of the "
    "first two",
    r"^[a-z][a-z0-9_]{0,15}$": "small letters, digits and '_', 16 at most, and begin with a letter",
    r"^[^/\\#?%:]{1,128}$": "1 to 128 characters, none of them one of /\\#?%:",
    r"^[A-Za-z0-9._-]*$": "letters, digits, '.', '_' and '-'",
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$": "small letters, digits and '-', with no '-' at an end, as in Kubernetes",
    r"^[A-Za-z0-9@._/:-]*$": "letters, digits and @._/:-",
    r"^([A-Za-z0-9][A-Za-z0-9._/:@-]*)?$": "the name of a container image, such as rayproject/ray:2.60.0",
    r"^(/[A-Za-z0-9][A-Za-z0-9._-]*)*$": "an absolute path of letters, digits and ._-, such as /mnt/shared",
    r"^([A-Za-z0-9][A-Za-z0-9.-]*:(/[A-Za-z0-9._/-]*))?$": "an export of NFS, host:/path",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "letters, digits and '_', and begin with no digit, as environment variables do",
    r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$": "a label of Kubernetes, such as "
    "example.com/pool",
    r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$": "the value of a label of Kubernetes: letters, digits and "
    "._-, 63 at most",
    r"^[a-z]{2}(-[a-z]+)+-[0-9]$": "a region of AWS, such as us-east-1",
    r"^(ami-[0-9a-f]{8,17})?$": "the id of a machine image of AWS, such as ami-0123456789abcdef0",
    r"^[a-z_][a-z0-9_-]*$": "the name of a user of Linux, such as ubuntu",
    r"^[a-z0-9-]+\.[a-z0-9-]+$": "an instance type of AWS, such as m7i.large",
    r"^([a-z][a-z0-9-]{4,28}[a-z0-9])?$": "the id of a project of GCP: small letters, digits and '-', 6 to 30",
    r"^[a-z]+-[a-z]+[0-9]+-[a-z]$": "a zone of GCP, such as us-central1-a",
    r"^[a-z0-9-]+$": "a machine type of GCP, such as e2-standard-2",
    r"^[a-z0-9-]*$": "an accelerator of GCP, such as nvidia-tesla-t4",
    r"^[a-z0-9.-]+:[0-9]{1,5}$": "an address, host:port",
    r"^([a-z]([-a-z0-9]*[a-z0-9])?)?$": "small letters, digits and '-', and begin with a letter and end with no '-'",
}
"""By the pattern of a field what a value must be, or be made of; every pattern of a spec is here."""
