"""Tests of the trainers below repos/ and of what they share."""
